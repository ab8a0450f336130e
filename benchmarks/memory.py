"""Memory of the data path by the number of cells: cutting windows, reading them, the gate, and predictions.

    python benchmarks/memory.py [--cells 20000 100000 500000] [--virtual 20000]

Each measurement runs in a process of its own. `bytes per cell` is the growth from the smallest to the largest slide, per cell, so imports
and the cache of the image drop out. `--virtual` also reads that many windows through the virtual dataset for other programs.
"""

import argparse
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import psutil

from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.config.models import GateConfig, GateOptimConfig, LocalConfig
from nuclass_pipeline.io import write_json, write_table
from nuclass_pipeline.models.checkpoint import CheckpointMetadata
from nuclass_pipeline.schemas import CELLS, LABELS, SPLIT

SIDE_PX = 8192
CLASSES = ("Acinar", "Ductal", "Malignant", "T_Cell")
LOCAL_DIM, GLOBAL_DIM = 1536, 1024
BATCHES, BATCH, WORKERS = 12, 64, 2
MB = 1e6


def main() -> None:
    """Measure each step for each number of cells, and print the growth per cell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[20_000, 100_000, 500_000])
    parser.add_argument("--virtual", type=int, default=0)
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=list(STEPS))
    options = parser.parse_args()
    found: dict[str, dict[int, float]] = {}
    for cells in options.cells:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            write_slide(folder, cells)
            needed = {step for chosen in options.steps for step in (chosen, *NEEDS.get(chosen, ()))}
            for step in (step for step in STEPS if step in needed):
                for name, megabytes in run(STEPS[step], folder).items():
                    if step not in options.steps:
                        continue
                    found.setdefault(name, {})[cells] = megabytes
                    print(f"{cells:>9,} cells  {name:<44} {megabytes:>9,.1f} MB", flush=True)
            if cells == options.virtual:
                for name, megabytes in run(read_virtual, folder).items():
                    print(f"{cells:>9,} cells  {name:<44} {megabytes:>9,.1f} MB", flush=True)
    print("\nbytes per cell")
    for name, sizes in found.items():
        low, high = min(sizes), max(sizes)
        grown = (sizes[high] - sizes[low]) * MB / (high - low) if high > low else float("nan")
        print(f"  {name:<44} {grown:>9,.0f}")


def run(step: Callable[[Path], dict[str, float]], folder: Path) -> dict[str, float]:
    """Run a step in a new interpreter, and return what it measured, MB by name."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_run_alone, step, folder).result()


def _run_alone(step: Callable[[Path], dict[str, float]], folder: Path) -> dict[str, float]:
    import nuclass_pipeline.evaluate.predict
    import nuclass_pipeline.train.gate  # noqa: F401

    return step(folder)


def write_slide(folder: Path, cells: int) -> None:
    """Write an image, and the tables of cells at random places in it."""
    rng = np.random.default_rng(0)
    tile = rng.integers(0, 255, (256, 256, 3), dtype=np.uint8) // 64 * 64
    with h5py.File(folder / "image.h5", "w") as file:
        level = file.create_dataset("level_0", (SIDE_PX, SIDE_PX, 3), np.uint8, chunks=(256, 256, 3), compression="lzf")
        for top in range(0, SIDE_PX, 256):
            level[top : top + 256] = np.tile(tile, (1, SIDE_PX // 256, 1))
        level.attrs["mpp"] = 0.25
        file["level_4"] = np.tile(tile[::16, ::16], (SIDE_PX // 256, SIDE_PX // 256, 1))
        file["level_4"].attrs["mpp"] = 4.0
        file["tissue"] = np.ones((SIDE_PX // 16, SIDE_PX // 16), np.uint8)
        file["tissue"].attrs["mpp"] = 4.0
        file.attrs.update(mpp=0.25, fill=255)
    write_json({"matrix": np.eye(3).tolist(), "xenium_mpp": 0.25, "residual_um": 0.0}, folder / "registration.json")
    ids = np.array([f"a{number:07x}-1" for number in range(cells)], dtype=object)
    xy_um = rng.uniform(0, SIDE_PX * 0.25, (cells, 2))
    table = pd.DataFrame({"cell_id": ids, "x_um": xy_um[:, 0], "y_um": xy_um[:, 1], "transcripts": 100, "controls": 0})
    write_table(table.assign(cell_area_um2=80.0, nucleus_area_um2=30.0, nucleus_transcripts=30.0), folder / "cells.parquet", CELLS)
    empty = dict.fromkeys(("cluster", "candidate", "lineage", "reason", "source"))
    numbers = dict.fromkeys(("lineage_confidence", "support", "margin", "purity"), np.nan)
    labels = pd.DataFrame({"cell_id": ids, "label": rng.choice(CLASSES, cells), "confidence": 0.9}).assign(**empty, **numbers)
    write_table(labels, folder / "labels.parquet", LABELS)
    subset = np.array(["train", "gate", "val"], dtype=object)[rng.choice(3, cells, p=[0.7, 0.15, 0.15])]
    split = pd.DataFrame({"cell_id": ids, "subset": subset, "block": "0-0", "reason": pd.Series([None] * cells, dtype=object)})
    write_table(split, folder / "split.parquet", SPLIT)


def resident() -> float:
    """Return the resident memory of this process, MB."""
    return psutil.Process().memory_info().rss / MB


def peak_above(before: float) -> float:
    """Return the largest resident memory of this process so far, above an earlier state, MB."""
    # Linux's own mark, because that of getrusage is inherited from the process that started this one.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / MB - before


def cut_patches(folder: Path) -> dict[str, float]:
    """Write both patch files and the annotations."""
    from nuclass_pipeline.data.image.patches import extract_patches

    inputs = {"image": folder / "image.h5", "registration": folder / "registration.json"}
    tables = {name: folder / f"{name}.parquet" for name in ("cells", "labels")}
    outputs = {"local": folder / "patches_224x224.h5", "context": folder / "patches_1024x1024.h5", "annotations": folder / "a.json"}
    before = resident()
    extract_patches(slide="s", organ="lung", config=ImageConfig(), **inputs, **tables, **outputs)
    return {"extract_patches, peak": peak_above(before)}


def read_cells(folder: Path) -> dict[str, float]:
    """Open the cells of the training, and read batches of them in worker processes."""
    from nuclass_pipeline.train.dataset import CellDataset, SlideFiles
    from nuclass_pipeline.train.loaders import make_loader
    from nuclass_pipeline.train.patch_reader import CacheBudget

    files = SlideFiles(
        folder / "patches_224x224.h5", folder / "labels.parquet", folder / "split.parquet", "lung", folder / "patches_1024x1024.h5"
    )
    before = resident()
    dataset = CellDataset(
        [files], subsets=["train", "gate", "val"], classes=CLASSES, organs=["lung"], image_px=224, context_px=512, memory=CacheBudget(0)
    )
    opened = resident()
    loader = iter(make_loader(dataset, BATCH, WORKERS, shuffle_seed=0))
    for _ in range(BATCHES):
        next(loader)
    workers = [child.memory_full_info().uss / MB for child in psutil.Process().children() if "resource_tracker" not in child.name()]
    return {"training process, above its imports": opened - before, "loader worker, memory of its own": max(workers)}


def read_virtual(folder: Path) -> dict[str, float]:
    """Open the virtual dataset, as other programs do, and read windows of every block."""
    before = resident()
    with h5py.File(folder / "patches_1024x1024.h5") as file:
        images = file["images"]
        for row in range(0, len(images), 1024):
            images[row]
        return {"virtual windows, for other programs": resident() - before}


def write_path_outputs(folder: Path) -> dict[str, float]:
    """Write a feature file of `embed_cells` with random numbers, block by block."""
    from nuclass_pipeline.train.features.files import RowsWriter, write_ids

    rng, path = np.random.default_rng(0), folder / "cells.seed-0.h5"
    cells = pd.read_parquet(folder / "cells.parquet")
    meta = CheckpointMetadata(
        kind="global", classes=CLASSES, organs=("lung",), mpp=0.25, local=LocalConfig(), backbone={},
        dims={"local": LOCAL_DIM, "global": GLOBAL_DIM, "context": 1024}, seed=0,
    )  # fmt: skip
    with h5py.File(path, "w") as file:
        write_ids(file, cells["cell_id"].to_numpy())
        file["xy_um"], file["image"] = cells[["x_um", "y_um"]].to_numpy(), np.zeros(len(cells), np.int64)
        file.attrs["meta"] = meta.model_dump_json()
        writer = RowsWriter(file, len(cells))
        for start in range(0, len(cells), 4096):
            rows = min(4096, len(cells) - start)
            features = {
                name: rng.normal(size=(rows, dim)).astype(np.float16) for name, dim in (("local", LOCAL_DIM), ("global", GLOBAL_DIM))
            }
            p = {f"{name}_p": rng.dirichlet(np.ones(len(CLASSES)), rows).astype(np.float32) for name in features}
            writer.append(**{f"{name}_feature": values for name, values in features.items()}, **p)
    return {}


def fit_gate(folder: Path) -> dict[str, float]:
    """Train the gate for one epoch."""
    from nuclass_pipeline.train.gate import train_gate

    path, before = folder / "cells.seed-0.h5", resident()
    config = GateConfig(optim=GateOptimConfig(max_epochs=1))
    tables = {"labels": [folder / "labels.parquet"], "splits": [folder / "split.parquet"]}
    train_gate(features=[path], **tables, config=config, seed=0, checkpoint=folder / "gate.ckpt", history=folder / "history.parquet")
    return {"train_gate, peak": peak_above(before)}


def predict(folder: Path) -> dict[str, float]:
    """Predict all cells by the gate that was trained."""
    from nuclass_pipeline.evaluate.predict import predict_slide

    before = resident()
    tables = {name: folder / f"{name}.parquet" for name in ("cells", "labels", "split")}
    outputs = {name: folder / f"{name.strip('_')}-predictions.parquet" for name in ("local", "global_", "gate")}
    predict_slide(
        features=folder / "cells.seed-0.h5", checkpoint=folder / "gate.ckpt", patches=folder / "patches_1024x1024.h5", **tables, **outputs
    )
    return {"predict_slide, peak": peak_above(before)}


STEPS: dict[str, Callable[[Path], dict[str, float]]] = {
    "cut": cut_patches,
    "read": read_cells,
    "embed": write_path_outputs,
    "gate": fit_gate,
    "predict": predict,
}

NEEDS = {"read": ("cut",), "gate": ("embed",), "predict": ("cut", "embed", "gate")}
"""Steps whose files a step reads; they run too, and are not printed."""

if __name__ == "__main__":
    # One thread, because pools of threads take memory of their own.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
