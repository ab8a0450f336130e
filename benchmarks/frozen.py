"""Cells per second of fine-tuning an encoder, beside those of training on its features with 1, 4 and 8 views, over 40 epochs.

    OMP_NUM_THREADS=1 python benchmarks/frozen.py [network of timm]

Features are computed once, so their time is divided by the epochs. Seconds are those of the processor, which other work changes less. The
time of an epoch is the difference of two trainings. The weights are random, because time does not depend on them.
"""

import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import timm
import torch

from nuclass_pipeline.config.compute import Compute
from nuclass_pipeline.config.models import LocalConfig
from nuclass_pipeline.train.features.windows import embed_windows
from nuclass_pipeline.train.local import train_local

SIDE_PX, CELLS, EPOCHS = 224, 192, 40
DEVICE = {"compute": Compute(gpu=0, precision="32-true", workers=0, cache_gb=8), "device": "cpu"}


def epoch_seconds(encoder: dict[str, object], windows: Path, cells: Path, more: int) -> float:
    files = {name: cells.with_name(name) for name in ("checkpoint", "history", "resume")} | {"labels": [cells], "splits": [cells]}
    took = []
    for epochs in (1, 1 + more):
        optim = {"batch_size": 32, "accumulate": 1, "checks_per_epoch": 1, "patience": 50, "max_epochs": epochs}
        config, start = LocalConfig(backbone=encoder, optim=optim, freeze_backbone_epochs=0), time.process_time()
        train_local(patches=[windows], organs=["lung"], classes=["A", "B"], config=config, seed=0, **files, **DEVICE)
        took.append(time.process_time() - start)
    return (took[1] - took[0]) / more


def main() -> None:
    network = sys.argv[1] if len(sys.argv) > 1 else "vit_tiny_patch16_224"
    with tempfile.TemporaryDirectory() as scratch:
        windows, table = Path(scratch, "windows.h5"), Path(scratch, "cells.parquet")
        torch.save(timm.create_model(network, num_classes=0).state_dict(), Path(scratch, "pytorch_model.bin"))
        ids, rng = [f"cell-{number}" for number in range(CELLS)], np.random.default_rng(0)
        with h5py.File(windows, "w") as file:
            file["images"], file["keys"] = rng.integers(0, 255, (CELLS, SIDE_PX, SIDE_PX, 3), np.uint8), ids
            file.attrs.update(mpp=0.25, fill=255)
        subset = ["val", *["train"] * (CELLS - 1)]
        pd.DataFrame({"cell_id": ids, "label": rng.choice(["A", "B"], CELLS), "subset": subset}).to_parquet(table)
        encoder = {"name": "own", "architecture": network, "weights": scratch, "image_px": SIDE_PX}
        tuned = epoch_seconds(encoder, windows, table, 1)
        print(f"{network}, {EPOCHS} epochs\n{'fine-tuned':<12} {CELLS / tuned:>9.1f} cells/s")
        for views in (1, 4, 8):
            features, frozen, start = Path(scratch, f"{views}.h5"), {**encoder, "freeze": True, "views": views}, time.process_time()
            embed_windows(patches=windows, config=LocalConfig(backbone=frozen).backbone, features=features, **DEVICE)
            once = time.process_time() - start
            took = once / EPOCHS + epoch_seconds(frozen, features, table, 20)
            speed = f"{CELLS / took:>9.1f} cells/s, {tuned / took:.1f} times as many, {1000 * once / CELLS:.0f} ms per cell once"
            print(f"{views} view(s)   {speed}, {features.stat().st_size / CELLS:.0f} bytes per cell")


if __name__ == "__main__":
    main()
