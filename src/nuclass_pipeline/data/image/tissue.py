"""Where a slide holds tissue: a mask at about 4 µm/px in `image.h5`, what looks wrong about it, and a picture."""

import json
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.filters import threshold_otsu
from skimage.morphology import closing, dilation, disk, remove_small_holes, remove_small_objects
from skimage.segmentation import find_boundaries

from nuclass_pipeline.arrays import Booleans
from nuclass_pipeline.data.image.pictures import with_key
from nuclass_pipeline.data.image.slide import RGB
from nuclass_pipeline.data.image.windows import MAKE_IMAGE_AGAIN, thumbnail
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import whole_file

MASK_MPP = 4.0
"""Largest pixel size of the mask, µm."""
MASK_SMOOTH_UM = 8.0
# By a range, because Otsu's threshold also divides an image that is all tissue or all glass.
TISSUE_OD = (0.03, 0.06)
"""Smallest and largest optical density in green, beyond that of the glass, above which a pixel is tissue."""
GLASS_QUANTILE = 0.99
MIN_GLASS = 200
"""Darkest glass in green; without any that pale, the image is taken to hold none."""
GAP_UM = 16.0
"""Gaps up to twice as wide belong to the tissue around them."""
MIN_PIECE_UM2 = 2500.0
"""Smallest piece of tissue."""
MAX_HOLE_UM2 = 10_000.0
"""Largest hole that belongs to the tissue around it."""
MASK_MARGIN_UM = 12.0
"""How far the mask reaches beyond the tissue, so that a cell at its edge lies in it."""
PLAUSIBLE_SHARE = (0.01, 0.999)
"""Shares of tissue without a warning."""
# On 171 crops of real H&E green absorbs most, and the share of red varies more than 0.7 times as much as that of blue in 98 of 100.
MIN_RED_SPREAD = 0.7
STAINED_OD = 0.2
"""Lowest optical density in green of the pixels whose colors are compared."""
MIN_STAINED = 100
"""Lowest number of such pixels."""
# Above the error of JPEG on grey, and far below eosin, whose red and green differ by 60.
MAX_GREY = 12
"""Largest difference between the colors of a grey pixel, 0–255."""
PICTURE_PX = 1200
"""Longer side of the picture."""
OUTLINE = (0, 160, 60)
DENSITY = -np.log10((np.arange(256, dtype=np.float32) + 1) / 256)
"""Optical density of each value of a pixel."""


def find_tissue(pixels: RGB, mpp: float) -> Booleans:
    """Return where pixels of `mpp`, µm, (height, width, 3), show tissue, (height, width).

    The mask reaches over narrow gaps, over small holes, and 12 µm beyond the tissue.
    """
    green = pixels[..., 1]
    glass = float(np.quantile(green, GLASS_QUANTILE))
    density = gaussian_filter(DENSITY[green], MASK_SMOOTH_UM / mpp) - (DENSITY[round(glass)] if glass >= MIN_GLASS else 0)
    constant = density.max() - density.min() < TISSUE_OD[0]
    threshold = TISSUE_OD[0] if constant else float(np.clip(threshold_otsu(density), *TISSUE_OD))  # type: ignore[no-untyped-call]
    gap_px = round(GAP_UM / mpp)
    # Padded, because tissue that the border cuts must not lose its edge.
    around = disk(gap_px)  # type: ignore[no-untyped-call]
    mask = closing(np.pad(density > threshold, gap_px, mode="edge"), around)[gap_px:, gap_px:][: len(green), : green.shape[1]]
    # Down to a quarter of the image, because it may be smaller than the smallest piece.
    piece, hole = (min(round(area / mpp**2), mask.size // 4) for area in (MIN_PIECE_UM2, MAX_HOLE_UM2))
    solid = remove_small_holes(remove_small_objects(mask, max_size=piece), max_size=hole)
    return np.asarray(dilation(solid, disk(round(MASK_MARGIN_UM / mpp))))  # type: ignore[no-untyped-call]


def image_warnings(pixels: RGB, mask: Booleans) -> list[str]:
    """Return what looks wrong about the tissue in pixels, (height, width, 3), with its mask, (height, width)."""
    share = float(mask.mean())
    odd = []
    if not PLAUSIBLE_SHARE[0] <= share <= PLAUSIBLE_SHARE[1]:
        odd.append(f"tissue covers {100 * share:.2f} % of the slide: look at tissue.png")
    red, green, blue = (DENSITY[pixels[mask]][:, channel] for channel in range(3))
    stained = green > STAINED_OD
    if stained.sum() >= MIN_STAINED:
        red, green, blue = red[stained], green[stained], blue[stained]
        if np.quantile(np.ptp(pixels[mask][stained], axis=1), 0.99) <= MAX_GREY:
            odd.append("the tissue has no color: the H&E looks converted to grey")
        elif green.mean() < max(red.mean(), blue.mean()):
            odd.append("the tissue absorbs green less than red or blue: it is not stained as an H&E is")
        elif _spread(red / green) < MIN_RED_SPREAD * _spread(blue / green):
            odd.append("the tissue varies in blue where an H&E varies in red: red and blue may be exchanged (BGR)")
    return odd


def _spread(values: NDArray[np.floating]) -> float:
    low, high = np.quantile(values, (0.1, 0.9))
    return float(high - low)


def write_tissue(file: h5py.File, notes: Sequence[str], picture: Path | None) -> list[str]:
    """Add the dataset `tissue` and the attributes `tissue_share` and `warnings` to an `image.h5`, and draw the tissue.

    Parameters
    ----------
    file
        The open file, with its pyramid.
    notes
        Warnings about the file of the H&E.
    picture
        PNG to write: the outline of the tissue on the slide.

    Returns
    -------
    list of str
        All warnings.
    """
    pixels, mpp = thumbnail(file, MASK_MPP)
    # Reduced further, because the pyramid of a small slide ends with finer pixels.
    factor = max(1, int(MASK_MPP / mpp))
    pixels, mpp = np.asarray(Image.fromarray(pixels).reduce(factor)), mpp * factor
    mask = find_tissue(pixels, mpp)
    warnings = [*notes, *image_warnings(pixels, mask)]
    dataset = file.create_dataset("tissue", data=mask.astype(np.uint8), compression="lzf")
    dataset.attrs["mpp"] = mpp
    file.attrs.update(tissue_share=float(mask.mean()), warnings=json.dumps(warnings))
    if picture is not None:
        _draw_mask(file, mask, picture)
    return warnings


def read_tissue(file: h5py.File) -> tuple[Booleans, float]:
    """Return the mask of an `image.h5`, (height, width), and its pixel size, µm."""
    if "tissue" not in file:
        raise UserError(file.filename, "tissue", "the dataset is missing", MAKE_IMAGE_AGAIN)
    return file["tissue"][...] > 0, float(file["tissue"].attrs["mpp"])


def _draw_mask(file: h5py.File, mask: Booleans, path: Path) -> None:
    height, width = file["level_0"].shape[:2]
    scale = min(1.0, PICTURE_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small, _ = thumbnail(file, float(file["level_0"].attrs["mpp"]) / scale)
    picture = np.array(Image.fromarray(small).resize(size))
    outline = find_boundaries(np.asarray(Image.fromarray(mask).resize(size)), mode="thick")  # type: ignore[no-untyped-call]
    picture[outline] = OUTLINE
    mpp = float(file["level_0"].attrs["mpp"]) / scale
    with whole_file(path) as partial:
        with_key(Image.fromarray(picture), mpp, f"green line: tissue with a margin of {MASK_MARGIN_UM:g} µm").save(partial, "PNG")
