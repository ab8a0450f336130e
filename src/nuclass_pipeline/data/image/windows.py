"""`image.h5`, one image per slide: the H&E at the target pixel size, read window by window.

It holds `level_0` (height, width, 3) uint8 at the target pixel size and `level_1`, …, each half as large, in chunks of 256² px.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.data.image.slide import RGB
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import cut_square, open_h5

MAKE_IMAGE_AGAIN = "Remove the file and run again; the rule build_image writes it."


def open_image(path: Path | str, **options: Any) -> h5py.File:
    """Open an `image.h5` for reading, with further arguments of `h5py.File`.

    Raises
    ------
    UserError
        If the file is missing or broken, or has no `level_0`.
    """
    file = open_h5(path, MAKE_IMAGE_AGAIN, **options)
    if "level_0" not in file:
        raise UserError(path, "level_0", "the dataset is missing", MAKE_IMAGE_AGAIN)
    return file


def cut_window(level: h5py.Dataset | RGB, x_px: float, y_px: float, side_px: int, fill: int) -> tuple[RGB, bool]:
    """Return the window of `side_px`² px centred on (x, y) of an image (height, width, 3); outside the image it holds `fill`.

    Returns
    -------
    window
        Pixels, (side, side, 3).
    padded
        Whether a part of the window lies outside the image.
    """
    (left, top), (height, width) = corners(np.array([[x_px, y_px]]), side_px)[0].tolist(), level.shape[:2]
    padded = left < 0 or top < 0 or left + side_px > width or top + side_px > height
    return cut_square(level, left, top, side_px, fill), padded


def corners(xy_px: Floats, side_px: int) -> NDArray[np.int32]:
    """Return the left and top edge of the windows of `side_px`² px around centroids (N, 2), px, (N, 2)."""
    # Rounded to even, as Python does it.
    return np.rint(xy_px - side_px / 2).astype(np.int32)


def thumbnail(file: h5py.File, mpp: float) -> tuple[NDArray[np.uint8], float]:
    """Return the coarsest level of the pyramid that is no coarser than `mpp`, (height, width, 3), and its pixel size, µm.

    If all levels are coarser, it is the finest.
    """
    names = sorted((name for name in file if name.startswith("level_")), key=lambda name: float(file[name].attrs["mpp"]))
    fitting = [name for name in names if file[name].attrs["mpp"] <= mpp] or names[:1]
    return file[fitting[-1]][...], float(file[fitting[-1]].attrs["mpp"])
