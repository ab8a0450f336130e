"""Many images in one `image.h5`, so far apart that no window of a cell shows another image."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np

from nuclass_pipeline.arrays import Floats, Integers
from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.config.loading.points import IMAGES, PointImage
from nuclass_pipeline.data.image.pyramid import CHUNK_PX, MIN_LEVEL_PX, halve
from nuclass_pipeline.data.image.resample import resample, resampled_shape
from nuclass_pipeline.data.image.slide import RGB, HeImage
from nuclass_pipeline.errors import UserError

MAX_LEVELS = 9
"""Levels of the pyramid: a place on the grid of chunks is a whole pixel in each of them."""
SLACK_PX = 2
"""By how many px an image may reach over its context picture, as rounding makes it."""


def measure(image: PointImage, config: ImageConfig) -> tuple[int, int]:
    """Return height and width that an image takes in the mosaic, px: those of its context picture, if it has one."""
    file, mpp = (image.context_file, image.context_mpp) if image.context_file else (image.file, image.mpp)
    with HeImage(file, config.fill) as opened:
        return resampled_shape(opened, mpp / config.mpp)


def corner(image: PointImage, mpp: float) -> tuple[float, float]:
    """Return where the left upper corner of the image lies in what is drawn of it, (x, y) in px of `mpp`, µm."""
    scale = image.context_mpp / mpp
    return image.context_xy_px[0] * scale, image.context_xy_px[1] * scale


def place_images(sizes: Sequence[tuple[int, int]], gap_px: int) -> tuple[Integers, tuple[int, int]]:
    """Place images of these heights and widths row by row, nearly as a square.

    Returns
    -------
    corners
        Top and left of each image, (N, 2), px; multiples of a chunk.
    size
        Height and width of the mosaic, px.
    """
    # By area, because images that are wide and low need more rows than columns.
    heights, widths = np.array(sizes).T + gap_px
    across = max(1, round(float(np.sqrt(len(sizes) * heights.mean() / widths.mean()))))
    rows, columns = np.arange(len(sizes)) // across, np.arange(len(sizes)) % across
    tops, height = _places([int(heights[rows == row].max()) for row in range(rows.max() + 1)], gap_px)
    lefts, width = _places([int(widths[columns == column].max()) for column in range(columns.max() + 1)], gap_px)
    return np.stack([tops[rows], lefts[columns]], axis=1), (height, width)


def _places(lengths: Sequence[int], gap_px: int) -> tuple[Integers, int]:
    whole = [-(-length // CHUNK_PX) * CHUNK_PX for length in lengths]
    starts = np.concatenate([[0], np.cumsum(whole)])[:-1]
    return starts, -(-(int(starts[-1]) + lengths[-1] - gap_px) // CHUNK_PX) * CHUNK_PX


def create_pyramid(file: h5py.File, size: tuple[int, int], config: ImageConfig) -> None:
    """Create the levels of an empty mosaic; what is never written takes no space and reads as `config.fill`."""
    height, width = size
    for number in range(MAX_LEVELS):
        shape = (max(1, height >> number), max(1, width >> number), 3)
        chunks = (min(CHUNK_PX, shape[0]), min(CHUNK_PX, shape[1]), 3)
        level = file.create_dataset(f"level_{number}", shape, np.uint8, chunks=chunks, compression="lzf", fillvalue=config.fill)
        level.attrs["mpp"] = config.mpp * 2**number
        if max(shape) <= MIN_LEVEL_PX:
            break
    file.attrs.update(mpp=config.mpp, fill=config.fill, mpp_he=config.mpp)


def draw(file: h5py.File, image: PointImage, place: tuple[int, int], config: ImageConfig) -> None:
    """Resample one image into the levels of a mosaic, with its upper left corner at `place`, (top, left)."""
    pixels = _render(image, config)
    missing = [(0, -side % CHUNK_PX) for side in pixels.shape[:2]]
    pixels = np.pad(pixels, [*missing, (0, 0)], constant_values=config.fill)
    top, left = place
    with ThreadPoolExecutor(1) as pool:
        for number in range(sum(name.startswith("level_") for name in file)):
            if number:
                pixels = halve(pixels, pool)
            level = file[f"level_{number}"]
            y, x = top >> number, left >> number
            part = pixels[: level.shape[0] - y, : level.shape[1] - x]
            level[y : y + part.shape[0], x : x + part.shape[1]] = part


def _render(image: PointImage, config: ImageConfig) -> RGB:
    pixels = _resampled(image.file, image.mpp, config)
    if image.context_file is None:
        return pixels
    whole = _resampled(image.context_file, image.context_mpp, config)
    left, top = (round(value) for value in corner(image, config.mpp))
    height, width = pixels.shape[:2]
    over = max(-top, -left, top + height - whole.shape[0], left + width - whole.shape[1])
    if over > SLACK_PX:
        problem = f"{image.name} reaches {over * config.mpp:.0f} µm over its context picture"
        raise UserError(image.file.parent, f"{IMAGES}, context_x_px", problem, "Correct context_x_px, context_y_px or context_mpp.")
    top, left = max(0, min(top, whole.shape[0] - height)), max(0, min(left, whole.shape[1] - width))
    whole[top : top + height, left : left + width] = pixels[: whole.shape[0], : whole.shape[1]]
    return whole


def _resampled(path: object, mpp: float, config: ImageConfig) -> RGB:
    with HeImage(path, config.fill) as opened:  # type: ignore[arg-type]
        return np.concatenate(list(resample(opened, mpp / config.mpp, CHUNK_PX)))


def leaves_frame(xy_px: Floats, frames: Integers, side_px: int) -> Floats:
    """Return the share of each window of `side_px` that lies outside its own frame (top, left, height, width), (N,)."""
    start = np.round(xy_px - side_px / 2)
    low = np.maximum(start, frames[:, [1, 0]])
    high = np.minimum(start + side_px, frames[:, [1, 0]] + frames[:, [3, 2]])
    inside = np.clip(high - low, 0, side_px).prod(axis=1)
    share: Floats = 1 - inside / side_px**2
    return share
