"""How long `image.h5` takes to build, against mere decoding and compression of the H&E, and how long reading a bundle takes.

    python benchmarks/ingest.py [--side 40000] [--cells 500000] [--genes 400]

The H&E repeats the real crop of `he_openslide_cmu1` in JPEG tiles of 512 px, without a pyramid, at 0.2738 µm/px. The bundle has
cells.parquet and a matrix in HDF5 with about 120 transcripts a cell. Each stage runs in a process of its own.
"""

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import tifffile
from scipy import sparse

from nuclass_pipeline.config.study import ImageConfig
from nuclass_pipeline.data.image import CHUNK_PX, build_image
from nuclass_pipeline.data.xenium import read_cells
from nuclass_pipeline.io import write_json

CROP = Path(os.environ.get("NUCLASS_TEST_DATA", Path(__file__).parents[2] / "shared/data")) / "he_openslide_cmu1/CMU-1-Small-Region.svs"
MPP_HE, TILE_PX, DEPTH, PART = 0.2738, 512, 120, 50_000


def write_image(folder: Path, side_px: int) -> None:
    crop = tifffile.imread(CROP)[..., :3]
    tiles_across = -(-side_px // TILE_PX)

    def tiles() -> Iterator[np.ndarray]:
        for row in range(tiles_across):
            rows = np.arange(row * TILE_PX, (row + 1) * TILE_PX) % crop.shape[0]
            for column in range(tiles_across):
                yield crop[np.ix_(rows, np.arange(column * TILE_PX, (column + 1) * TILE_PX) % crop.shape[1])]

    with tifffile.TiffWriter(folder / "he.tif", bigtiff=True) as tiff:
        shape = (side_px, side_px, 3)
        tiff.write(tiles(), shape=shape, dtype=np.uint8, tile=(TILE_PX, TILE_PX), compression="jpeg", photometric="rgb")
    matrix = np.diag([MPP_HE / 0.2125, MPP_HE / 0.2125, 1.0]).tolist()
    write_json({"matrix": matrix, "xenium_mpp": 0.2125, "residual_um": 0.0}, folder / "registration.json")


def decode_and_compress(folder: Path) -> None:
    """Decode every tile and compress it as `image.h5` does: what no builder can do without."""
    with tifffile.TiffFile(folder / "he.tif") as tiff, h5py.File(folder / "plain.h5", "w", libver="v110") as file:
        page = tiff.pages.first
        shape = tuple(-(-side // TILE_PX) * TILE_PX for side in page.shape[:2])
        level = file.create_dataset("level_0", (*shape, 3), np.uint8, chunks=(CHUNK_PX, CHUNK_PX, 3), compression="lzf")
        for tile, (*_, top, left, _), _ in page.segments(maxworkers=1):
            level[top : top + TILE_PX, left : left + TILE_PX] = tile[0, :, :, :]


def build(folder: Path) -> None:
    build_image(image=folder / "he.tif", registration=folder / "registration.json", config=ImageConfig(), pyramid=folder / "image.h5")


def write_bundle(folder: Path, cells: int, genes: int) -> None:
    rng = np.random.default_rng(0)
    rates = rng.lognormal(0, 1, genes)
    rates *= DEPTH / rates.sum()
    sizes = [min(PART, cells - start) for start in range(0, cells, PART)]
    counts = sparse.vstack([sparse.csr_matrix(rng.poisson(np.tile(rates, (size, 1))).astype(np.int32)) for size in sizes], format="csr")
    ids = np.array([f"cell{row:06d}-1" for row in range(cells)])
    centre = rng.uniform(0, 10_000, (2, cells))
    table = pd.DataFrame({"cell_id": ids, "x_centroid": centre[0], "y_centroid": centre[1], "transcript_counts": counts.sum(axis=1).A1})
    zeros = ("control_probe_counts", "control_codeword_counts", "unassigned_codeword_counts", "deprecated_codeword_counts")
    table.assign(**dict.fromkeys(zeros, 0), cell_area=80.0, nucleus_area=30.0).to_parquet(folder / "cells.parquet")
    names = np.array([f"GENE{gene}" for gene in range(genes)], "S")
    with h5py.File(folder / "cell_feature_matrix.h5", "w") as file:
        for name, values in {
            "barcodes": ids.astype("S"),
            "data": counts.data,
            "indices": counts.indices.astype(np.int64),
            "indptr": counts.indptr.astype(np.int64),
            "shape": np.array([genes, cells], np.int32),
            "features/id": names,
            "features/name": names,
            "features/feature_type": np.full(genes, b"Gene Expression"),
        }.items():
            file.create_dataset(f"matrix/{name}", data=values, compression="gzip")
    manifest = {"pixel_size": 0.2125, "analysis_sw_version": "xenium-3.0.0.0", "num_cells": cells}
    write_json(manifest, folder / "experiment.xenium")


def read(folder: Path) -> None:
    read_cells(manifest=folder / "experiment.xenium", cells=folder / "read.parquet", counts=folder / "counts.h5ad")


def measure(work: Callable[[Path], None], folder: Path) -> float:
    """Run `work` in a fresh interpreter, print what it took, and return its seconds."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    child = context.Process(target=_timed, args=(work, folder, results))
    child.start()
    child.join()
    if child.exitcode:
        raise SystemExit(f"{work.__name__} failed")
    seconds, peak_gb = results.get()
    print(f"{work.__name__}: {seconds:.0f} s, peak {peak_gb:.1f} GB", flush=True)
    return float(seconds)


def _timed(work: Callable[[Path], None], folder: Path, results: "multiprocessing.Queue[tuple[float, float]]") -> None:
    start = time.perf_counter()
    work(folder)
    results.put((time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("side", 40_000), ("cells", 500_000), ("genes", 400)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_image(folder, options.side)
        print(f"H&E of {options.side}² px, {(folder / 'he.tif').stat().st_size / 1e6:.0f} MB")
        plain, built = measure(decode_and_compress, folder), measure(build, folder)
        more = 4 / 3 * (MPP_HE / ImageConfig().mpp) ** 2
        print(f"build_image runs at {plain / built:.2f} of that rate, and writes {more:.2f} times the pixels: resampled, in all levels")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_bundle(folder, options.cells, options.genes)
        print(f"bundle of {options.cells} cells and {options.genes} genes")
        measure(read, folder)


if __name__ == "__main__":
    main()
