"""Parts of an H&E that no tissue can be in: transparent pixels, and black or plain regions that a writer filled in."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, label

from nuclass_pipeline.arrays import Booleans

Pixels = NDArray[np.uint8]

GRID_PX = 4096
"""Largest side of the grid of cells on which regions are looked for."""
# Not darker than the darkest nuclei of real slides, which have 40 and more in blue; JPEG keeps black below it.
BLACK = 24
"""Highest value of a black pixel in any color."""
BLURRED_BLACK = 64
"""The same for pixels beside a black region, which are black mixed with what lies there."""
DIM = 96
"""Highest value of a pixel between black and what is bright."""
PLAIN = 3
"""Largest difference of a pixel from the color of a plain frame."""
BLURRED_PLAIN = 12
GLASS_LEVEL = 200
"""A frame whose darkest color is above it is glass, and stays as it is."""
MIN_FRAME_SHARE = 0.05
"""Share of the image's border that has exactly the color of a plain frame."""
# Smaller ones are left alone, because a dark nucleus may be cut by the border.
MIN_JOINED_PX = 32**2
"""Smallest black or plain region that is joined to the border, px² of the full resolution."""
# Far above a clump of pigment, because black in the midst of tissue may be real.
MIN_HOLE_PX = 128**2
"""Smallest black region in the midst of the image."""


@dataclass(frozen=True)
class EmptyRegion:
    """All regions of one color in an image.

    Attributes
    ----------
    color, tolerance
        Red, green and blue, and how much a pixel of a region may differ in each of them.
    cells
        Cells of a grid that hold a pixel of a region or lie beside one, (rows, columns).
    cell_px
        Side of a cell, px of the full resolution.
    share
        Share of the image that the regions cover.
    """

    color: tuple[int, ...]
    tolerance: int
    cells: Booleans
    cell_px: float
    share: float

    def __str__(self) -> str:
        return f"{100 * self.share:.1f} % of the image is filled with the color {self.color} and read as glass"

    def fill(self, pixels: Pixels, top: int, left: int, downsample: tuple[float, float], value: int) -> None:
        """Set the region's pixels to `value`.

        Parameters
        ----------
        pixels
            Part of a level of the image, (height, width, 3); changed in place.
        top, left
            Its first row and column in that level.
        downsample
            Full-resolution pixels of a pixel of the level, down and across.
        value
            New value of all colors.
        """
        rows, columns = (
            np.minimum(((start + np.arange(size) + 0.5) * step / self.cell_px).astype(int), cells - 1)
            for start, size, step, cells in zip((top, left), pixels.shape[:2], downsample, self.cells.shape, strict=True)
        )
        touched = np.asarray(self.cells[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].any(axis=1))
        for row in np.flatnonzero(touched[rows - rows[0]]):
            line = pixels[row]
            line[self.cells[rows[row], columns] & self._has_color(line)] = value

    def _has_color(self, pixels: Pixels) -> Booleans:
        low, high = np.clip(np.add(self.color, [[-self.tolerance], [self.tolerance]]), 0, 255).astype(np.uint8)
        return np.asarray(((pixels >= low) & (pixels <= high)).all(axis=-1))


def over_white(pixels: Pixels, white: int, *, premultiplied: bool = False) -> Pixels:
    """Return pixels with alpha, (height, width, 4), as they look on glass of value `white`, (height, width, 3)."""
    alpha = pixels[..., 3:].astype(np.uint16)
    if (alpha == 255).all():
        return pixels[..., :3]
    color = pixels[..., :3].astype(np.uint16) * (255 if premultiplied else alpha)
    return np.asarray(np.minimum((color + (255 - alpha) * white + 127) // 255, 255), np.uint8)


def find_empty(bands: Iterable[tuple[int, Pixels]], shape: tuple[int, int], downsample: float) -> tuple[EmptyRegion, ...]:
    """Find black and plain regions that are joined to the border, and large black ones in the midst of the image.

    Parameters
    ----------
    bands
        A level of the image from top to bottom: row, and pixels (rows, width, 3).
    shape
        Height and width of the level, px.
    downsample
        Full-resolution pixels of a pixel of the level.
    """
    side = -(-max(shape) // GRID_PX)
    low, high = _extremes(bands, shape, side)
    cell_px = side * downsample
    regions = []
    for color, tolerance, blurred in ((np.zeros(3, np.uint8), BLACK, BLURRED_BLACK), *_frames(low, high)):
        is_all = ((low >= color - np.minimum(color, tolerance)) & (high <= color + np.minimum(255 - color, tolerance))).all(axis=2)
        # Any pixel of a cell suffices for black, because a frame may be narrower than a cell.
        is_any = is_all if color.any() else np.asarray((low <= tolerance).all(axis=2))
        found = _joined(is_any, MIN_JOINED_PX / cell_px**2)
        if not color.any():
            found |= _larger(is_all, MIN_HOLE_PX / cell_px**2)
        # Not around dim cells, because a negative or a fluorescence image fades into black, and a frame ends.
        beside = binary_dilation(found, np.ones((5, 5), bool)) & ~found
        if found.any() and not (beside.any() and (high[beside].max(axis=1) < DIM).mean() > 0.5):
            near = binary_dilation(found, np.ones((3, 3), bool))
            regions.append(EmptyRegion(tuple(color.tolist()), blurred, np.asarray(near), cell_px, float(found.mean())))
    return tuple(regions)


def _extremes(bands: Iterable[tuple[int, Pixels]], shape: tuple[int, int], side: int) -> tuple[Pixels, Pixels]:
    """Return the lowest and the highest value of each color in cells of `side`² px."""
    rows, columns = (-(-length // side) for length in shape)
    low, high = np.full((rows, columns, 3), 255, np.uint8), np.zeros((rows, columns, 3), np.uint8)
    starts = np.arange(0, shape[1], side)
    for top, band in bands:
        cell = (top + np.arange(len(band))) // side
        first = np.flatnonzero(np.diff(cell, prepend=-1))
        for function, kept in ((np.minimum, low), (np.maximum, high)):
            reduced = band if side == 1 else function.reduceat(function.reduceat(band, starts, axis=1), first, axis=0)
            place = kept[cell[0] : cell[-1] + 1]
            function(place, reduced, out=place)
    return low, high


def _frames(low: Pixels, high: Pixels) -> Iterator[tuple[Pixels, int, int]]:
    """Yield color and tolerances of what may be a plain frame: exact colors that recur along the border."""
    lows, highs = (np.concatenate([grid[0], grid[-1], grid[1:-1, 0], grid[1:-1, -1]]) for grid in (low, high))
    plain = lows[(highs - lows <= PLAIN).all(axis=1) & (lows.min(axis=1) < GLASS_LEVEL) & (lows.max(axis=1) > BLACK)]
    colors, counts = np.unique(plain, axis=0, return_counts=True)
    for color in colors[counts >= MIN_FRAME_SHARE * len(lows)]:
        yield color, PLAIN, BLURRED_PLAIN


def _joined(mask: Booleans, least: float) -> Booleans:
    """Return the pieces of a mask that touch its border and have `least` cells or more."""
    pieces, count = label(mask)
    touching = np.zeros(count + 1, bool)
    for edge in (pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]):
        touching[edge] = True
    return _kept(pieces, touching, least)


def _larger(mask: Booleans, least: float) -> Booleans:
    pieces, count = label(mask)
    return _kept(pieces, np.ones(count + 1, bool), least)


def _kept(pieces: NDArray[np.integer], allowed: Booleans, least: float) -> Booleans:
    allowed &= np.bincount(pieces.ravel(), minlength=len(allowed)) >= least
    allowed[0] = False
    return np.asarray(allowed[pieces])
