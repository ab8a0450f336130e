"""Cells without image: they lie outside the H&E, or their local crop shows no tissue."""

import h5py
import numpy as np
from numpy.typing import NDArray

from nuclass_pipeline.arrays import Booleans, Floats
from nuclass_pipeline.data.image.slide import RGB
from nuclass_pipeline.data.image.tissue import MASK_MPP, read_tissue
from nuclass_pipeline.data.image.windows import corners, thumbnail
from nuclass_pipeline.io import overlap
from nuclass_pipeline.units import ImagePixel

OUTSIDE, NO_TISSUE = "outside the H&E", "no tissue"
"""Why a cell has no image."""
# Above the noise of a scanner and of JPEG on empty glass, and far below the contrast of any stained nucleus.
MAX_BLANK = 12
"""Largest difference between two pixels of a patch without tissue, in each colour, 0–255."""
SPARSE_PX = 16


def find_reasons(image: h5py.File, xy_px: ImagePixel, mpp: float, side_px: int) -> NDArray[np.object_]:
    """Return why each cell has no image, (N,); empty where it has one.

    Parameters
    ----------
    image
        An open `image.h5`, with its mask of the tissue.
    xy_px
        Centroids (N, 2) in px of `level_0`.
    mpp
        Pixel size of `level_0`, µm.
    side_px
        Side of the local crop, px of `level_0`.
    """
    level = image["level_0"]
    height, width = level.shape[:2]
    inside = ((xy_px >= 0) & (xy_px < (width, height))).all(axis=1)
    reasons = np.where(inside, "", OUTSIDE).astype(object)
    mask, mask_mpp = read_tissue(image)
    share = _share_tissue(mask, xy_px, side_px, mpp / mask_mpp)
    reasons[inside & (share == 0)] = NO_TISSUE
    coarse, coarse_mpp = thumbnail(image, MASK_MPP)
    factor = round(coarse_mpp / mpp)
    # The pixels too, because the mask holds glass at the edge of the tissue, and regions of one color that are darker than the glass.
    origin_px = corners(xy_px, side_px)
    for row in np.flatnonzero(inside & (share > 0)):
        left, top = origin_px[row].tolist()
        crop, _ = overlap(left, top, side_px, height, width)
        if _may_be_blank(coarse, crop, factor) and is_blank(level[crop]):
            reasons[row] = NO_TISSUE
    return reasons


def _may_be_blank(coarse: RGB, crop: tuple[slice, slice], factor: int) -> bool:
    """Return whether the means of `factor`² px that lie in a crop are of one color, as those of a blank crop are."""
    # Means first, because a slide has up to a million cells, and means that differ prove that the pixels do.
    rows, columns = (slice(-(-part.start // factor), part.stop // factor) for part in crop)
    means = coarse[rows, columns]
    return not means.size or bool((np.ptp(means, axis=(0, 1)) <= MAX_BLANK).all())


def _share_tissue(mask: Booleans, xy_px: ImagePixel, side_px: int, scale: float) -> Floats:
    """Return the share of tissue in the part of each local crop that lies in the image, (N,), for `scale` mask pixels per image pixel."""
    # By sums from the corner, because a slide has up to a million cells.
    sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
    sums[1:, 1:] = mask.cumsum(0).cumsum(1)
    size = (mask.shape[1], mask.shape[0])
    left, top = np.clip(np.floor((xy_px - side_px / 2) * scale).astype(int), 0, size).T
    right, bottom = np.clip(np.ceil((xy_px + side_px / 2) * scale).astype(int), 0, size).T
    tissue = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    share: Floats = tissue / np.maximum((right - left) * (bottom - top), 1)
    return share


def is_blank(patch: NDArray[np.uint8]) -> bool:
    """Return whether a patch (S, S, 3) is of one colour, as where a window has no pixels."""
    # A few pixels first, because they show at once that most patches are not blank.
    return all(bool((np.ptp(pixels, axis=(0, 1)) <= MAX_BLANK).all()) for pixels in (patch[::SPARSE_PX, ::SPARSE_PX], patch))
