"""Cells per second of a training that fine-tunes the encoder, beside those of trainings on its features with 1, 4 and 8 views.

    OMP_NUM_THREADS=1 python benchmarks/frozen.py [--network vit_tiny_patch16_224] [--cells 192] [--epochs 40] [--checkpointing]

Features are computed once, so their time is divided by the epochs. Seconds are those of the processor, which other work changes less. The
time of an epoch is the difference of two trainings. The weights are random, because time does not depend on them.
"""

import argparse
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
from nuclass_pipeline.train.features import embed_windows
from nuclass_pipeline.train.local import train_local

SIDE_PX, DEVICE = 224, {"compute": Compute(gpu=0, precision="32-true", workers=0, cache_gb=8), "device": "cpu"}


def epoch_seconds(encoder: dict[str, object], windows: Path, cells: Path, more: int) -> float:
    took, optim = [], {"batch_size": 32, "accumulate": 1, "checks_per_epoch": 1, "patience": 1 + more}
    files = {"patches": [windows], "labels": [cells], "splits": [cells], "organs": ["lung"], "classes": ["A", "B"]}
    files |= {name: cells.with_name(name) for name in ("checkpoint", "history", "resume")}
    for epochs in (1, 1 + more):
        config = LocalConfig(backbone=encoder, optim={**optim, "max_epochs": epochs}, freeze_backbone_epochs=0)
        start = time.process_time()
        train_local(**files, **DEVICE, config=config, seed=0)
        took.append(time.process_time() - start)
    return (took[1] - took[0]) / more


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("network", "vit_tiny_patch16_224"), ("cells", 192), ("epochs", 40)):
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing, which the paper's run file sets")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        windows, table, count = Path(scratch, "windows.h5"), Path(scratch, "cells.parquet"), options.cells
        torch.save(timm.create_model(options.network, num_classes=0).state_dict(), Path(scratch, "pytorch_model.bin"))
        ids, rng = [f"cell-{number}" for number in range(count)], np.random.default_rng(0)
        with h5py.File(windows, "w") as file:
            file["images"], file["keys"] = rng.integers(0, 255, (count, SIDE_PX, SIDE_PX, 3), np.uint8), ids
            file.attrs.update(mpp=0.25, fill=255)
        frame = {"cell_id": ids, "label": rng.choice(["A", "B"], count), "subset": ["val", *["train"] * (count - 1)]}
        pd.DataFrame(frame).to_parquet(table)
        encoder = {"name": "own", "architecture": options.network, "weights": scratch, "image_px": SIDE_PX}
        tuned = epoch_seconds({**encoder, "gradient_checkpointing": options.checkpointing}, windows, table, 1)
        print(f"{options.network}, {options.epochs} epochs\n{'fine-tuned':<12} {count / tuned:>9.1f} cells/s")
        for views in (1, 4, 8):
            features, frozen, start = Path(scratch, f"{views}.h5"), {**encoder, "freeze": True, "views": views}, time.process_time()
            embed_windows(patches=windows, config=LocalConfig(backbone=frozen).backbone, features=features, **DEVICE)
            once = time.process_time() - start
            took = once / options.epochs + epoch_seconds(frozen, features, table, 20)
            with h5py.File(features) as file:
                size = file["feature"].nbytes / count
            speed = f"{count / took:>9.1f} cells/s, {tuned / took:.1f} times as many"
            print(f"{views} view(s)   {speed}, {1000 * once / count:.0f} ms per cell once, {size:.0f} bytes per cell")


if __name__ == "__main__":
    main()
