"""Cells per second of the training's loader in uniform and in run order, beside reading the same windows, side by side.

    python benchmarks/loader.py [--cells 168000] [--workers 0] [--device cpu]

The image has 8192 × 8192 px of 0.25 µm, and about 0.04 cells per µm². `raw` reads the windows of the same cells in tile order, in one
process, and does not resize them. Without loader processes, seconds are those of the processor, because other work may share it.
`resize` is the rate of the resizing alone: of the loader, 8 windows at a time on the CPU, and of 32 windows in one batch of float32 on
the device, with the largest difference between both.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.nn.functional import interpolate

from nuclass_pipeline.io import USUAL_BYTES, BlockCache, WindowReader
from nuclass_pipeline.train.dataset import RUN_CELLS
from nuclass_pipeline.train.loaders import RUNS_PER_CELL, make_loader
from nuclass_pipeline.train.patch_reader import MAX_BLOCK_BYTES, CacheBudget, PatchReader, resize

SIDE_PX, CHUNK_PX = 8192, 256
KINDS = {"crops, 224 px": (224, 224, 256), "contexts, 1024 → 512 px": (1024, 512, 128)}
"""Side in the image, side in the model, px, and cells per batch."""
SECONDS = 8.0


class Windows(torch.utils.data.Dataset[torch.Tensor]):
    """The windows of a file, as `CellDataset` reads them."""

    def __init__(self, path: Path, side_px: int, blocks: BlockCache) -> None:
        cells = WindowReader(path).cells
        self.reader = PatchReader(path, np.arange(cells), side_px, CacheBudget(0, blocks=blocks))

    def __len__(self) -> int:
        return len(self.reader.rows)

    def __getitems__(self, indices: list[int]) -> torch.Tensor:
        return self.reader.read(np.asarray(indices))


def write_image(folder: Path, cells: int) -> None:
    """Write an image that LZF compresses as little as H&E, and the corners of windows around cells at random places."""
    rng = np.random.default_rng(0)
    with h5py.File(folder / "image.h5", "w") as file:
        level = file.create_dataset("level_0", (SIDE_PX, SIDE_PX, 3), np.uint8, chunks=(CHUNK_PX, CHUNK_PX, 3), compression="lzf")
        for top in range(0, SIDE_PX, CHUNK_PX):
            level[top : top + CHUNK_PX] = rng.normal(190, 12, (CHUNK_PX, SIDE_PX, 3)).clip(0, 255).astype(np.uint8)
    middle = rng.integers(0, SIDE_PX, (cells, 2))
    for side in {side for side, _, _ in KINDS.values()}:
        with h5py.File(folder / f"patches_{side}.h5", "w") as file:
            file["origin_px"] = (middle - side // 2).astype(np.int32)
            file.create_dataset("keys", data=[f"{number}" for number in range(cells)], dtype=h5py.string_dtype())
            file.attrs.update(side_px=side, fill=255, mpp=0.25)


def rate(batches: Iterator[Any], clock: Callable[[], float], least: int = 0) -> float:
    """Return cells per second over some seconds and `least` cells; the first batch, for which processes start, does not count."""
    next(batches)
    begun, cells = clock(), 0
    for batch in batches:
        cells += len(batch)
        if (spent := clock() - begun) > SECONDS and cells >= least:
            break
    return cells / spent


def raw(path: Path, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Read windows in tile order, a few at once."""
    reader = WindowReader(path, BlockCache(USUAL_BYTES))
    ordered = rows[reader.order(rows)]
    for few in np.array_split(ordered, len(ordered) // 8):
        yield reader.read(few)


def measure(path: Path, kind: str, workers: int) -> dict[str, float]:
    """Return cells per second of each way; every way begins without decoded blocks."""
    _, side, batch = KINDS[kind]
    clock = time.perf_counter if workers else time.process_time
    order = Windows(path, side, BlockCache()).reader.tile_order()
    runs = np.split(order, range(RUN_CELLS, len(order), RUN_CELLS))
    bucket = RUNS_PER_CELL * batch * RUN_CELLS
    loaders = {
        name: make_loader(Windows(path, side, BlockCache(size)), batch, workers, 0, chosen)
        for name, chosen, size in (("uniform", None, USUAL_BYTES), ("runs", runs, MAX_BLOCK_BYTES // max(1, workers)))
    }
    rows = np.fromiter(islice(iter(loaders["runs"].sampler), bucket), np.int64)
    return {
        "uniform": rate(iter(loaders["uniform"]), clock),
        # A quarter of a bucket, which decodes nearly all that the bucket needs.
        "runs": rate(iter(loaders["runs"]), clock, bucket // 4),
        "raw": rate(raw(path, rows), clock),
    }


def resizing(device: str) -> tuple[float, float, int]:
    """Return windows per second of the loader's resizing and of one batch on the device, and the largest difference of a value."""
    windows = np.random.default_rng(0).integers(0, 256, (32, 1024, 1024, 3), dtype=np.uint8)

    def in_a_batch() -> torch.Tensor:
        planes = torch.from_numpy(windows).to(device).permute(0, 3, 1, 2).float()
        return interpolate(planes, size=(512, 512), mode="bilinear", antialias=True).round().byte().cpu()

    def on_the_cpu() -> np.ndarray:
        return np.concatenate([resize(windows[start : start + 8], 512) for start in range(0, len(windows), 8)])

    rates = []
    for way in (on_the_cpu, in_a_batch):
        way()
        begun = time.perf_counter()
        way()
        rates.append(len(windows) / (time.perf_counter() - begun))
    difference = in_a_batch().permute(0, 2, 3, 1).int() - torch.from_numpy(on_the_cpu()).int()
    return rates[0], rates[1], int(difference.abs().max())


def main() -> None:
    """Print the rates of each kind of window."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=168_000)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    table = Table("windows", "uniform, cells/s", "runs, cells/s", "raw, cells/s", "runs / raw", "runs / uniform")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_image(folder, options.cells)
        for kind, (side, _, _) in KINDS.items():
            found = measure(folder / f"patches_{side}.h5", kind, options.workers)
            shares = found["runs"] / found["raw"], found["runs"] / found["uniform"]
            table.add_row(kind, *(f"{found[name]:,.0f}" for name in ("uniform", "runs", "raw")), *(f"{share:.2f}" for share in shares))
    Console().print(table)
    cpu, batch, difference = resizing(options.device)
    print(
        f"resize 1024 → 512 px: {cpu:,.0f} windows/s on the CPU, {batch:,.0f} in one batch on {options.device}, at most {difference} apart"
    )


if __name__ == "__main__":
    # One thread, because a training has as many loader processes as cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    main()
