"""How long `image.h5` takes to build, against mere decoding and compression of the H&E.

    python benchmarks/image.py [--side 40000] [--threads 2]

The H&E repeats the real crop of `he_openslide_cmu1` in JPEG tiles of 512 px, without a pyramid, at 0.2738 µm/px. Each stage runs in
a process of its own, one thread and then `--threads`, twice in turn; the rates are those of the medians.
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import imagecodecs
import numpy as np
import tifffile
from stage import measure

from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.image.pyramid import CHUNK_PX, build_image
from nuclass_pipeline.data.image.slide import READ_AHEAD
from nuclass_pipeline.io import write_json

CROP = Path(os.environ.get("NUCLASS_TEST_DATA", Path(__file__).parents[2] / "shared/data")) / "he_openslide_cmu1/CMU-1-Small-Region.svs"
MPP_HE, TILE_PX, ROUNDS = 0.2738, 512, 2
MORE = 4 / 3 * (MPP_HE / ImageConfig().mpp) ** 2
"""Pixels of `image.h5`, all levels, by pixels of the H&E."""


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


def decode_and_compress(folder: Path, threads: int) -> None:
    """Decode every tile once, and compress and write as many pixels as `image.h5` holds, by the same codecs: what no builder can spare."""
    with (
        tifffile.TiffFile(folder / "he.tif") as tiff,
        ThreadPoolExecutor(threads) as pool,
        h5py.File(folder / "plain.h5", "w", libver="v110") as file,
    ):
        page = tiff.pages.first
        shape = (2, *(-(-side // TILE_PX) * TILE_PX for side in page.shape[:2]), 3)
        dataset = file.create_dataset("images", shape, np.uint8, chunks=(1, CHUNK_PX, CHUNK_PX, 3), compression="lzf")
        due = 0.0
        for tile, (*_, top, left, _), _ in page.segments(maxworkers=threads, buffersize=READ_AHEAD):
            due += MORE
            places = [(y, x) for y in range(0, TILE_PX, CHUNK_PX) for x in range(0, TILE_PX, CHUNK_PX)]
            for copy in range(int(due)):
                chunks = [tile[0, y : y + CHUNK_PX, x : x + CHUNK_PX].tobytes() for y, x in places]
                for (y, x), encoded in zip(places, pool.map(imagecodecs.lzf_encode, chunks), strict=True):
                    dataset.id.write_direct_chunk((copy, top + y, left + x, 0), encoded)
            due -= int(due)


def decode_and_compress_by_h5py(folder: Path, threads: int) -> None:
    """Decode every tile and give it to h5py, which compresses it in one thread: level 0 alone, not resampled."""
    with tifffile.TiffFile(folder / "he.tif") as tiff, h5py.File(folder / "plain.h5", "w", libver="v110") as file:
        page = tiff.pages.first
        shape = tuple(-(-side // TILE_PX) * TILE_PX for side in page.shape[:2])
        level = file.create_dataset("level_0", (*shape, 3), np.uint8, chunks=(CHUNK_PX, CHUNK_PX, 3), compression="lzf")
        for tile, (*_, top, left, _), _ in page.segments(maxworkers=threads, buffersize=READ_AHEAD):
            level[top : top + TILE_PX, left : left + TILE_PX] = tile[0, :, :, :]


def build(folder: Path, threads: int) -> None:
    files = {"image": folder / "he.tif", "registration": folder / "registration.json", "pyramid": folder / "image.h5"}
    build_image(**files, config=ImageConfig(), threads=threads)


def seconds(work: Callable[[Path, int], None], folder: Path, threads: int) -> float:
    """Return the seconds that `work` takes; it does not pay for deleting, or still writing to the disk, what was written before it."""
    for name in ("plain.h5", "image.h5"):
        (folder / name).unlink(missing_ok=True)
    os.sync()
    return measure(work, folder, threads).seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=40_000, help="px")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_image(folder, options.side)
        print(f"H&E of {options.side}² px, {(folder / 'he.tif').stat().st_size / 1e6:.0f} MB; image.h5 has {MORE:.2f} times the pixels")
        for threads in dict.fromkeys((1, options.threads)):
            print(f"threads: {threads}", flush=True)
            stages = (decode_and_compress, decode_and_compress_by_h5py, build)
            rounds = [[seconds(stage, folder, threads) for stage in stages] for _ in range(ROUNDS)]
            plain, by_h5py, built = (statistics.median(times) for times in zip(*rounds, strict=True))
            print(f"{threads} threads: build runs at {plain / built:.2f} of decoding and compressing as many pixels by the same codecs,")
            print(f"  and at {by_h5py / built:.2f} of decoding and compressing the H&E alone by tifffile and h5py")


if __name__ == "__main__":
    main()
