"""Patch datasets as other programs write them, in both encodings."""

import json

import h5py
import numpy as np

from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.trio.stage import import_trio

CONFIG = ImageConfig(local_um=8, context_um=16)
SIDES = {"local": 32, "context": 64}
IDS = ("aaaa-1", "001", "aaac-1", "aaad-1", "07")


def make_pixels(ids=IDS, side=32, seed=0):
    """Return patches that differ in each pixel, (N, side, side, 3)."""
    return np.random.default_rng(seed).integers(0, 255, (len(ids), side, side, 3), dtype=np.uint8)


def make_records(ids=IDS, **fields):
    return {
        cell: {"class_id": "T_Cell", "centroid_x": 100.0 * number, "centroid_y": 50.0, "micron_per_pixel": 0.25, **fields}
        for number, cell in enumerate(ids)
    }


def write_patches(path, ids, pixels, encoding, mpp=None):
    """Write a patch file; `merged` has one dataset of all patches, `per-key` one of each."""
    with h5py.File(path, "w") as file:
        if encoding == "merged":
            file.create_dataset("images", data=pixels, chunks=(1, *pixels.shape[1:]), compression="lzf")
            file.create_dataset("keys", data=np.array(ids, dtype=object), dtype=h5py.string_dtype())
        else:
            for cell, patch in zip(ids, pixels, strict=True):
                file.create_dataset(cell, data=patch, compression="lzf")
        if mpp is not None:
            file.attrs["mpp"] = mpp
    return path


def write_set(folder, encoding="merged", *, ids=IDS, records=None, sides=(32, 64), mpp=None):
    """Write a patch dataset, and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "annotations.json").write_text(json.dumps(make_records(ids) if records is None else records))
    for side in sides:
        write_patches(folder / f"patches_{side}x{side}.h5", ids, make_pixels(ids, side, side), encoding, mpp)
    return folder


def enter(folder, target, *, organ="lung", config=CONFIG, sides=(32, 64), **sources):
    """Import a patch dataset, and return the folder of the slide."""
    target.mkdir(parents=True, exist_ok=True)
    (target / "labels.tsv").write_text("raw\tclass\treason\n")
    names = {"annotations": "annotations.json"} | {
        f"{kind}_source": f"patches_{side}x{side}.h5" for kind, side in zip(SIDES, sides, strict=True)
    }
    import_trio(
        organ=organ,
        **{name: folder / file for name, file in names.items()} | sources,
        label_map=target / "labels.tsv",
        config=config,
        cells=target / "cells.parquet",
        labels=target / "labels.parquet",
        local=target / "local.h5",
        context=target / "context.h5",
    )
    return target
