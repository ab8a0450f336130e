"""One image per slide: the H&E resampled once to the target pixel size, as a chunked pyramid in HDF5.

`image.h5` holds `level_0` (height, width, 3) uint8 at the target pixel size and `level_1`, … each half as large, in chunks of 256².
"""

import logging
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from nuclass_pipeline.config.study import ImageConfig
from nuclass_pipeline.data.he import RGB, HeImage
from nuclass_pipeline.data.registration import read_registration
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import require, whole_file

logger = logging.getLogger(__name__)

CHUNK_PX = 256
STRIP_PX = 4 * CHUNK_PX
SMALLEST_PX = 512


def build_image(*, image: Path, registration: Path, config: ImageConfig, pyramid: Path) -> None:
    """Resample the H&E to `config.mpp` and write its pyramid, strip by strip.

    The image keeps the orientation of the H&E: turning it would blur every nucleus, while cells can be turned exactly.
    """
    alignment, _ = read_registration(registration)
    scale = alignment.mpp_he / config.mpp
    with HeImage(image) as he, whole_file(pyramid) as partial, h5py.File(partial, "w", libver="v110") as file:
        height, width = (max(1, round(side * scale)) for side in he.shape)
        level = _create_level(file, 0, height, width, config.mpp)
        for top in range(0, height, STRIP_PX):
            rows = slice(top, min(top + STRIP_PX, height))
            level[rows] = he.resample(scale, rows, width)
            logger.info("row %d of %d", rows.stop, height)
        _build_pyramid(file, config.mpp)
        file.attrs.update(mpp=config.mpp, fill=config.fill, mpp_he=alignment.mpp_he)


def _create_level(file: h5py.File, number: int, height: int, width: int, mpp: float) -> h5py.Dataset:
    chunks = (min(CHUNK_PX, height), min(CHUNK_PX, width), 3)
    level = file.create_dataset(f"level_{number}", (height, width, 3), np.uint8, chunks=chunks, compression="lzf", shuffle=False)
    level.attrs["mpp"] = mpp * 2**number
    return level


def _build_pyramid(file: h5py.File, mpp: float) -> None:
    number = 0
    while max(file[f"level_{number}"].shape[:2]) > SMALLEST_PX:
        finer = file[f"level_{number}"]
        height, width = (max(1, side // 2) for side in finer.shape[:2])
        number += 1
        coarser = _create_level(file, number, height, width, mpp)
        for top in range(0, height, STRIP_PX):
            rows = slice(top, min(top + STRIP_PX, height))
            coarser[rows] = _halve(finer[2 * rows.start : 2 * rows.stop])[:, :width]


def _halve(pixels: RGB) -> RGB:
    pixels = pixels[: max(1, len(pixels) // 2 * 2), : max(1, pixels.shape[1] // 2 * 2)]
    if min(pixels.shape[:2]) < 2:
        return pixels
    total = sum(pixels[dy::2, dx::2].astype(np.uint16) for dy in (0, 1) for dx in (0, 1))
    return np.asarray((np.asarray(total) + 2) // 4, dtype=np.uint8)


def open_image(path: Path | str) -> h5py.File:
    """Open an `image.h5` for reading; a missing or broken file is a `UserError`."""
    try:
        file = h5py.File(require(path), "r")
    except OSError as error:
        raise UserError(path, "file", f"not a readable HDF5 file ({error})", "Remove it and run again.") from error
    if "level_0" not in file:
        raise UserError(path, "level_0", "the dataset is missing", "Remove the file and run again.")
    return file


def cut_window(level: h5py.Dataset | RGB, x_px: float, y_px: float, side_px: int, fill: int) -> tuple[RGB, bool]:
    """Cut the `side_px`² window centred on (x, y); outside the image it holds `fill`.

    Returns
    -------
    window
        (side, side, 3).
    padded
        Whether any of it lies outside.
    """
    height, width = level.shape[:2]
    source, target = overlap(x_px, y_px, side_px, height, width)
    window = np.full((side_px, side_px, 3), fill, dtype=np.uint8)
    window[target] = level[source]
    return window, window[target].shape != window.shape


def overlap(x_px: float, y_px: float, side_px: int, height: int, width: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return where a window lies in the image, and where that part lies in the window, as (rows, columns)."""
    source, target = [], []
    for centre, size in ((y_px, height), (x_px, width)):
        start = round(centre - side_px / 2)
        low, high = min(max(start, 0), size), max(min(start + side_px, size), 0)
        source.append(slice(low, max(low, high)))
        target.append(slice(low - start, max(low, high) - start))
    return (source[0], source[1]), (target[0], target[1])


def thumbnail(file: h5py.File, mpp: float) -> tuple[NDArray[np.uint8], float]:
    """Return the pyramid's level nearest to `mpp` from below, and its pixel size, µm."""
    names = sorted((name for name in file if name.startswith("level_")), key=lambda name: float(file[name].attrs["mpp"]))
    fitting = [name for name in names if file[name].attrs["mpp"] <= mpp] or names[:1]
    return file[fitting[-1]][...], float(file[fitting[-1]].attrs["mpp"])
