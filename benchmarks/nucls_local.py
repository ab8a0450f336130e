"""The local path on real H&E with expert labels (NuCLS): leave-images-out macro-F1 against two baselines.

    python benchmarks/nucls_local.py [--folds 5] [--epochs 30]

Each image of `he_nucls` becomes a patch dataset, which passes through the ordinary stages. The baselines are the majority class,
and logistic regression on the colour histogram of the 16 µm around the nucleus.
"""

import argparse
import os
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nuclass_pipeline.config.backbones.section import BackboneConfig
from nuclass_pipeline.config.compute import Compute
from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.config.models import LocalConfig, LocalOptimConfig
from nuclass_pipeline.data.image.windows import cut_window
from nuclass_pipeline.data.trio.stage import import_trio
from nuclass_pipeline.io import open_patches, read_table, write_json, write_table
from nuclass_pipeline.layout import CONTEXT_PX, LOCAL_PX
from nuclass_pipeline.models.local import restore_local
from nuclass_pipeline.schemas import LABELS, SPLIT
from nuclass_pipeline.train.cell_task import as_float
from nuclass_pipeline.train.local import train_local
from nuclass_pipeline.train.patch_reader import resize
from nuclass_pipeline.vocabulary import ORGANS

DATA = Path(os.environ.get("NUCLASS_TEST_DATA", Path(__file__).parents[2] / "shared/data")) / "he_nucls"
NATIVE_MPP = 0.2
CLASSES = {0: "Epithelial_Malignant", 1: "Fibroblast", 2: "T_Cell"}
CONFIG = ImageConfig()
# 16 µm: the nucleus and what touches it, because the colours of the whole crop are those of its neighbours.
NUCLEUS_PX = 64


def make_trio(image: Path, folder: Path) -> None:
    """Write the patch dataset of one image: every nucleus with a label of `CLASSES`, in patches at 0.25 µm/px."""
    folder.mkdir()
    pixels = Image.open(image).convert("RGB")
    scale = NATIVE_MPP / CONFIG.mpp
    pixels = np.asarray(pixels.resize([round(side * scale) for side in pixels.size], Image.Resampling.BICUBIC))
    nuclei = pd.read_csv(DATA / f"labels/{image.stem}.csv", names=["x", "y", "label"])
    nuclei = nuclei[nuclei["label"].isin(CLASSES)].reset_index(drop=True)
    places = nuclei[["x", "y"]].to_numpy() * scale
    ids = [f"{image.stem}-{row}" for row in nuclei.index]
    for side in (LOCAL_PX, CONTEXT_PX):
        with h5py.File(folder / f"patches_{side}x{side}.h5", "w") as file:
            file["keys"] = ids
            shape = (len(ids), side, side, 3)
            images = file.create_dataset("images", shape, np.uint8, chunks=(1, *shape[1:]), compression="lzf")
            for row, place in enumerate(places):
                images[row], _ = cut_window(pixels, *place, side, CONFIG.fill)
    records = zip(ids, nuclei["label"], places, strict=True)
    annotations = {
        i: {"class_id": CLASSES[label], "tissue_type": "breast", "micron_per_pixel": CONFIG.mpp, "centroid_x": x, "centroid_y": y}
        for i, label, (x, y) in records
    }
    write_json(annotations, folder / "annotations.json")


def enter(trio: Path, target: Path, label_map: Path) -> None:
    """Import a patch dataset as the workflow does."""
    target.mkdir()
    import_trio(
        organ="breast",
        annotations=trio / "annotations.json",
        local_source=trio / "patches_224x224.h5",
        context_source=trio / "patches_1024x1024.h5",
        label_map=label_map,
        config=CONFIG,
        cells=target / "cells.parquet",
        labels=target / "labels.parquet",
        local=target / "patches_224x224.h5",
        context=target / "patches_1024x1024.h5",
    )


def assign(target: Path, subset: str) -> None:
    """Assign all cells of an image to one subset of the split."""
    ids = read_table(target / "labels.parquet", LABELS)["cell_id"]
    write_table(pd.DataFrame({"cell_id": ids, "subset": subset, "block": target.name, "reason": None}), target / "split.parquet", SPLIT)


def predict_local(checkpoint: Path, target: Path) -> np.ndarray:
    """Return the classes (N,) that the local path predicts for the cells of an image."""
    model, meta = restore_local(checkpoint)
    model.eval()
    with open_patches(target / "patches_224x224.h5") as file:
        crops = resize(file["images"][...], meta.local.backbone.image_px)
    organ = torch.full((len(crops),), ORGANS.index("breast"))
    with torch.no_grad():
        logits = model(as_float(torch.from_numpy(crops).permute(0, 3, 1, 2)), organ).logits
    return np.array(meta.classes)[logits.argmax(1).numpy()]


def histograms(target: Path) -> np.ndarray:
    """Return a histogram of each colour around each nucleus, 8 bins each, (N, 24)."""
    low = (LOCAL_PX - NUCLEUS_PX) // 2
    with open_patches(target / "patches_224x224.h5") as file:
        crops = [file["images"][row][low:-low, low:-low] for row in range(len(file["keys"]))]
    return np.array([np.concatenate([np.histogram(crop[..., c], bins=8, range=(0, 256))[0] for c in range(3)]) for crop in crops])


def run_fold(targets: list[Path], held: set[str], epochs: int, folder: Path) -> pd.DataFrame:
    """Train on all images but `held`, and return truth and predictions of these."""
    train = [target for target in targets if target.name not in held]
    # Whole images for validation, because crops of one image overlap.
    for number, target in enumerate(train):
        assign(target, "val" if number % 4 == 0 else "train")
    rate = {"lr_backbone": 2e-3, "lr_head": 2e-3, "layer_decay": 1, "weight_decay": 0.02, "warmup_steps": 10, "schedule": "cosine"}
    optim = LocalOptimConfig(**rate, batch_size=32, accumulate=1, max_epochs=epochs)
    config = LocalConfig(
        backbone=BackboneConfig(name="tiny-resnet", image_px=112),
        optim=optim.model_copy(update={"checks_per_epoch": 1, "patience": epochs}),
        freeze_backbone_epochs=0,
        stain_jitter=0.2,
    )
    folder.mkdir()
    train_local(
        patches=[t / "patches_224x224.h5" for t in train],
        labels=[t / "labels.parquet" for t in train],
        splits=[t / "split.parquet" for t in train],
        organs=["breast"] * len(train),
        classes=sorted(CLASSES.values()),
        config=config,
        compute=Compute(precision="32-true"),
        seed=0,
        device="cpu",
        checkpoint=folder / "best.ckpt",
        history=folder / "history.parquet",
        resume=folder / "resume",
    )
    truth = {target: read_table(target / "labels.parquet", LABELS)["label"].to_numpy() for target in targets}
    majority = pd.Series(np.concatenate([truth[t] for t in train])).mode()[0]
    colors = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, class_weight="balanced"))
    colors.fit(np.concatenate([histograms(t) for t in train]), np.concatenate([truth[t] for t in train]))
    tests = [target for target in targets if target.name in held]
    frames = [
        pd.DataFrame(
            {
                "truth": truth[t],
                "majority": majority,
                "colour histogram": colors.predict(histograms(t)),
                "local path": predict_local(folder / "best.ckpt", t),
            }
        )
        for t in tests
    ]
    return pd.concat(frames)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=30)
    options = parser.parse_args()
    images = sorted((DATA / "images").glob("*.png"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        label_map = folder / "labels.tsv"
        label_map.write_text("raw\tclass\treason\n")
        targets = []
        for image in images:
            make_trio(image, folder / f"trio-{image.stem}")
            enter(folder / f"trio-{image.stem}", folder / image.stem, label_map)
            targets.append(folder / image.stem)
        folds = [{target.name for target in targets[fold :: options.folds]} for fold in range(options.folds)]
        results = pd.concat([run_fold(targets, held, options.epochs, folder / f"fold-{i}") for i, held in enumerate(folds)])
    table = Table("model", "macro-F1", "accuracy", title=f"{len(results)} nuclei, {len(images)} images, {options.folds} folds by image")
    for name in ("majority", "colour histogram", "local path"):
        score = f1_score(results["truth"], results[name], average="macro", zero_division=0)
        table.add_row(name, f"{score:.3f}", f"{(results['truth'] == results[name]).mean():.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
