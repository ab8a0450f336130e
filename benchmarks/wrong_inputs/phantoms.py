"""Right inputs, made once: slides of a few hundred cells, what the stages make of them, a project to run them in."""

import json
import shutil
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ("Fibroblast", "Macrophage", "T_Cell")
TRIO_CELLS = 12
RUN_FILE = """\
run: trial
slides: config/slides.tsv
compute: {threads: 1, precision: 32-true}
study:
  train: [mine-1]
  heldout: [mine-2]
local:
  backbone: {name: tiny-resnet, image_px: 112}
global:
  context: {name: tiny-resnet, image_px: 64}
"""
SHEET = "slide\tkind\torgan\tbundle\timage\talignment\n" + "".join(
    f"mine-{n}\txenium\tlung\tdata/{n}/outs\tdata/{n}/he.ome.tif\tdata/{n}/alignment.csv\n" for n in (1, 2)
)


def make_phantoms(folder: Path) -> None:
    """Make what is not there yet: `small`, `other`, `big`, `stages`, `trio`, `models` and `project`."""
    # Complete only with its last folder, so that a broken try is made anew.
    if (folder / "project").is_dir():
        shutil.rmtree(folder / "project")
        _project(folder)
        return
    shutil.rmtree(folder / "trio", ignore_errors=True)
    shutil.rmtree(folder / "models", ignore_errors=True)
    if not (folder / "stages-small/image.h5").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        for name, seed, cells in (("small", 5, 300), ("other", 6, 300), ("big", 7, 2000)):
            _slide(folder / name, seed, cells)
        _stages(folder)
    _trio(folder / "trio")
    _models(folder / "models", folder / "trio")
    _project(folder)


def _slide(folder: Path, seed: int, cells: int) -> None:
    from nuclass_pipeline.config.synthetic import SyntheticConfig
    from nuclass_pipeline.phantom import make_slide

    files = {"manifest": folder / "outs/experiment.xenium", "image": folder / "he.ome.tif"}
    config = SyntheticConfig(cells=cells)
    make_slide(organ="lung", seed=seed, config=config, alignment=folder / "alignment.csv", truth=folder / "outs/.truth.parquet", **files)
    (folder / "outs/.truth.parquet").rename(folder / "truth.parquet")


def _stages(folder: Path) -> None:
    from nuclass_pipeline.config.image import ImageConfig, RegistrationConfig, SegmentationConfig
    from nuclass_pipeline.data.image.pyramid import build_image
    from nuclass_pipeline.data.registration.stage import register_image
    from nuclass_pipeline.data.xenium.read import read_cells

    for name in ("small", "big"):
        made = folder / f"stages-{name}"
        read_cells(manifest=folder / name / "outs/experiment.xenium", cells=made / "cells.parquet", counts=made / "counts.h5ad")
    made, slide = folder / "stages-small", folder / "small"
    register_image(
        slide="mine-1",
        manifest=slide / "outs/experiment.xenium",
        cells=made / "cells.parquet",
        image=slide / "he.ome.tif",
        alignment=slide / "alignment.csv",
        config=RegistrationConfig(),
        segmentation=SegmentationConfig(),
        registration=made / "registration.json",
    )
    build_image(he=slide / "he.ome.tif", registration=made / "registration.json", config=ImageConfig(), image=made / "image.h5")


def write_trio(folder: Path, cells: int = TRIO_CELLS) -> None:
    """Write a patch dataset of real copies: annotations and two patch files of flat colours."""
    import h5py

    folder.mkdir(parents=True, exist_ok=True)
    ids = [f"cell{number:03d}-1" for number in range(cells)]
    records = {
        name: {
            "class_id": CLASSES[number % 3],
            "centroid_x": 600.0 + 1200 * number,
            "centroid_y": 700.0 + 40 * number,
            "micron_per_pixel": 0.25,
        }
        for number, name in enumerate(ids)
    }
    (folder / "annotations.json").write_text(json.dumps(records))
    for side in (224, 1024):
        with h5py.File(folder / f"patches_{side}x{side}.h5", "w") as file:
            shape = (cells, side, side, 3)
            images = file.create_dataset("images", shape, "u1", chunks=(1, side, side, 3), compression="gzip", compression_opts=1)
            for row in range(cells):
                # Coarse, so that it is small when packed, and not flat, because flat patches are glass.
                grain = np.random.default_rng(row).integers(-40, 40, (side // 8, side // 8, 1))
                images[row] = np.clip(grain + np.array([170, 110, 165]), 0, 255).astype(np.uint8).repeat(8, 0).repeat(8, 1)
            file["keys"] = np.array(ids, dtype=h5py.string_dtype())


def _trio(folder: Path) -> None:
    import h5py
    import pandas as pd

    from nuclass_pipeline.config.image import ImageConfig
    from nuclass_pipeline.data.trio.stage import import_trio

    write_trio(folder / "trio")
    made = folder / "imported"
    import_trio(
        organ="lung",
        annotations=folder / "trio/annotations.json",
        local_source=folder / "trio/patches_224x224.h5",
        context_source=folder / "trio/patches_1024x1024.h5",
        label_map=ROOT / "config/labels.tsv",
        config=ImageConfig(materialize=True),
        cells=made / "cells.parquet",
        labels=made / "labels.parquet",
        local=made / "patches_224x224.h5",
        context=made / "patches_1024x1024.h5",
    )
    for side in (224, 1024):
        name = f"patches_{side}x{side}.h5"
        with h5py.File(made / name) as file:
            further = {dataset: file[dataset][:] for dataset in file if dataset not in ("images", "keys", "source_row")}
        # A copy, because the imported file shows the patches of the phantom's folder, and cases change them.
        shutil.copy(folder / "trio" / name, made / name)
        with h5py.File(made / name, "r+") as file:
            for dataset, values in further.items():
                file[dataset] = values
            file.attrs.update(mpp=0.25, fill=255)
    from nuclass_pipeline.io import write_table
    from nuclass_pipeline.schemas import SPLIT

    ids = pd.read_parquet(made / "cells.parquet")["cell_id"]
    subsets = ["train", "train", "train", "gate", "gate", "gate", "val", "val", "val", "val", "val", "val"]
    write_table(pd.DataFrame({"cell_id": ids, "subset": subsets, "block": "0_0", "reason": None}), made / "split.parquet", SPLIT)


def _models(folder: Path, trio: Path) -> None:
    import torch

    from nuclass_pipeline.config.backbones.section import BackboneConfig
    from nuclass_pipeline.config.compute import Compute
    from nuclass_pipeline.config.models import GateConfig, GlobalConfig, LocalConfig
    from nuclass_pipeline.models.backbones import build_backbone
    from nuclass_pipeline.models.checkpoint import CheckpointMetadata, save_checkpoint
    from nuclass_pipeline.models.gate import Gate
    from nuclass_pipeline.models.global_ import GlobalClassifier
    from nuclass_pipeline.models.local import LocalClassifier
    from nuclass_pipeline.train.features.cells import embed_cells
    from nuclass_pipeline.vocabulary import ORGANS

    torch.manual_seed(0)
    backbone = BackboneConfig(name="tiny-resnet", image_px=64)
    encoder, context = build_backbone(backbone), build_backbone(backbone)
    config, broad = LocalConfig(backbone=backbone), GlobalConfig(context=backbone)
    local = LocalClassifier(encoder, classes=3, organs=len(ORGANS), config=config)
    broader = GlobalClassifier(local, context, context.dim, classes=3, config=broad)
    dims = {"local": encoder.dim, "context": context.dim, "global": broad.projection * 2}
    common = {"classes": CLASSES, "organs": ORGANS, "mpp": 0.25, "local": config, "backbone": encoder.spec, "seed": 0}
    whole = {**common, "global_": broad, "context": context.spec, "dims": dims}
    save_checkpoint(folder / "local.ckpt", local, CheckpointMetadata(kind="local", dims={"local": encoder.dim}, **common))
    save_checkpoint(folder / "global.ckpt", broader, CheckpointMetadata(kind="global", **whole))
    gate = Gate(encoder.dim, dims["global"], GateConfig())
    save_checkpoint(folder / "gate.ckpt", gate, CheckpointMetadata(kind="gate", gate=GateConfig(), **whole))
    embed_cells(
        cells=trio / "imported/cells.parquet",
        patches=trio / "imported/patches_224x224.h5",
        contexts=trio / "imported/patches_1024x1024.h5",
        labels=trio / "imported/labels.parquet",
        split=trio / "imported/split.parquet",
        organ="lung",
        local=folder / "local.ckpt",
        global_=folder / "global.ckpt",
        compute=Compute(precision="32-true"),
        device="cpu",
        features=folder / "cells.h5",
    )


def _project(folder: Path) -> None:
    """Copy what a run needs of this repository, with two slides of its own."""
    (folder / "other-image").mkdir(exist_ok=True)
    shutil.copy(folder / "other/he.ome.tif", folder / "other-image/other-he.tif")
    project = folder / "project/project"
    for name in ("workflow", "profiles", "config"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__", "schema.json"))
    shutil.copy(ROOT / "Snakefile", project)
    (project / "config/slides.tsv").write_text(SHEET)
    (project / "config/mine.yaml").write_text(RUN_FILE)
    for number, name in ((1, "small"), (2, "other")):
        target = project / f"data/{number}"
        shutil.copytree(folder / name, target)
        (target / "truth.parquet").unlink()
