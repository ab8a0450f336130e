"""Correlation of haematoxylin with the cells, over the whole slide and by region, and the shift at which it is highest."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, rfft2
from scipy.ndimage import gaussian_filter

from nuclass_pipeline.arrays import Booleans, Floats
from nuclass_pipeline.units import ImagePixel

# Coarse, because at 1 µm/px blurred centroids already recover shifts within 0.5 µm (docs/development.md).
QC_MPP = 1.0
"""Pixel size at which haematoxylin and nuclei are compared, µm."""
NUCLEUS_SIGMA_UM = 2.5
MIN_CORRELATION = 0.1
# Half, because a mirrored or turned alignment puts tissue on tissue too, and so reaches a part of the correlation.
MAX_CHANCE_RATIO = 0.5
"""Share of the correlation that misplaced cells may reach at most."""
REGION_CELLS = 1000
REGION_UM = (250.0, 1000.0)
"""Smallest and largest side of a region, µm."""
# Because with fewer cells in a region, the best of all shifts is high by chance.
MIN_REGION_CELLS = 150


@dataclass(frozen=True)
class ShiftFit:
    """The best shift of the cells against haematoxylin or nuclei, and how good it is.

    Attributes
    ----------
    shift_um
        Shift of the cells (x, y) with the highest correlation, µm of the H&E frame.
    correlation
        Correlation of the cells as aligned.
    correlation_best
        Correlation of the cells after the shift.
    correlation_chance
        Highest correlation of the same cells turned by 180° about their middle, over all shifts.
    """

    shift_um: tuple[float, float]
    correlation: float
    correlation_best: float
    correlation_chance: float

    @property
    def distance_um(self) -> float:
        """Length of the shift, µm."""
        return float(np.hypot(*self.shift_um))

    @property
    def confidence(self) -> float:
        """Share of the correlation that is not due to chance: 1 − correlation_chance / correlation_best, from 0 to 1."""
        return max(0.0, 1 - max(0.0, self.correlation_chance) / self.correlation_best) if self.correlation_best > 0 else 0.0

    @property
    def is_chance(self) -> bool:
        """Whether misplaced cells, turned by 180°, reach half of the correlation or more."""
        return self.correlation_chance >= MAX_CHANCE_RATIO * self.correlation_best

    @property
    def is_clear(self) -> bool:
        """Whether the correlation is high enough to show a shift: 0.1 or more, and more than twice that by chance."""
        return self.correlation_best >= MIN_CORRELATION and not self.is_chance


@dataclass(frozen=True)
class RegionFit:
    """Fit of the cells in one rectangle of the slide.

    Attributes
    ----------
    low_um, high_um
        Corners (x, y), µm of the H&E frame.
    cells
        Number of cells.
    fit
        Their best shift.
    """

    low_um: tuple[float, float]
    high_um: tuple[float, float]
    cells: int
    fit: ShiftFit

    def holds(self, xy_um: Floats) -> Booleans:
        """Return which points, (N, 2) in µm of the H&E frame, lie in the region, (N,)."""
        return np.asarray(((xy_um >= self.low_um) & (xy_um < self.high_um)).all(axis=1))

    def record(self) -> dict[str, Any]:
        """Return the entry of the region in `registration.json`."""
        return {
            "x_um": (self.low_um[0] + self.high_um[0]) / 2,
            "y_um": (self.low_um[1] + self.high_um[1]) / 2,
            "cells": self.cells,
            "shift_um": list(self.fit.shift_um),
            "correlation_best": self.fit.correlation_best,
            "confidence": self.fit.confidence,
            "clear": self.fit.is_clear,
        }


def sharpen(density: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the structures of the size of a nucleus in a density at `QC_MPP`, (height, width), by a difference of Gaussians."""
    sigma = NUCLEUS_SIGMA_UM / QC_MPP
    return np.asarray(gaussian_filter(density, sigma) - gaussian_filter(density, 8 * sigma))


def draw_nuclei(xy_px: Floats, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Draw points, (N, 2) in pixels of `QC_MPP`, as blurred nuclei on an image of `shape` (height, width)."""
    height, width = shape
    dots, *_ = np.histogram2d(xy_px[:, 1], xy_px[:, 0], bins=(height, width), range=((0, height), (0, width)))
    return np.asarray(gaussian_filter(dots.astype(np.float32), NUCLEUS_SIGMA_UM / QC_MPP))


def correlate_shifts(texture: NDArray[np.float32], xy_px: ImagePixel, search_um: float) -> ShiftFit:
    """Fit the cells, as blurred dots, to the texture of the H&E over all shifts up to `search_um`.

    Parameters
    ----------
    texture
        Haematoxylin or nuclei, (height, width) at `QC_MPP`, from `sharpen`.
    xy_px
        Cells, (N, 2) in px of `texture`.
    search_um
        Largest shift along x and along y, µm.

    Returns
    -------
    ShiftFit
        Best shift, at a resolution of `QC_MPP` refined by a parabola.
    """
    # Within half of the image, because the correlation is cyclic, and a longer shift is a shorter one the other way round.
    reach = min(int(search_um / QC_MPP), (min(texture.shape) - 1) // 2)
    surface = _correlate(texture, xy_px, reach)
    row, column = np.unravel_index(int(np.argmax(surface)), surface.shape)
    shift_px = (_refine(surface[row], int(column)) - reach, _refine(surface[:, column], int(row)) - reach)
    # Turned, because misplaced cells of the same density show how much of the correlation is that of tissue on tissue.
    turned = ImagePixel(xy_px.min(axis=0) + xy_px.max(axis=0) - xy_px)
    return ShiftFit(
        shift_um=(shift_px[0] * QC_MPP, shift_px[1] * QC_MPP),
        correlation=float(surface[reach, reach]),
        correlation_best=float(surface[row, column]),
        correlation_chance=float(_correlate(texture, turned, reach).max()),
    )


def correlate_regions(texture: NDArray[np.float32], xy_px: ImagePixel, search_um: float) -> tuple[RegionFit, ...]:
    """Fit every region that has enough cells; parameters as for `correlate_shifts`.

    Regions are nearly square and hold about `REGION_CELLS` cells, fewer on a small slide.
    """
    size = np.array(texture.shape[::-1])
    xy_px = ImagePixel(xy_px[((xy_px >= 0) & (xy_px < size)).all(axis=1)])
    if len(xy_px) < MIN_REGION_CELLS:
        return ()
    regions = []
    x_edges, y_edges = _edges(xy_px)
    for left, right in pairwise(x_edges):
        for top, bottom in pairwise(y_edges):
            inside = xy_px[((xy_px >= (left, top)) & (xy_px < (right, bottom))).all(axis=1)]
            if len(inside) >= MIN_REGION_CELLS:
                fit = correlate_shifts(texture[top:bottom, left:right], ImagePixel(inside - (left, top)), search_um)
                regions.append(RegionFit((left * QC_MPP, top * QC_MPP), (right * QC_MPP, bottom * QC_MPP), len(inside), fit))
    return tuple(regions)


def _edges(xy_px: ImagePixel) -> tuple[list[int], list[int]]:
    """Return the borders of the regions along x and along y, px."""
    low, high = xy_px.min(axis=0), xy_px.max(axis=0)
    extent_um = (high - low) * QC_MPP
    side_um = min(float(np.sqrt(extent_um.prod() * REGION_CELLS / len(xy_px))), float(extent_um.min()) / 2)
    # At most REGION_UM wide, because within it a turn by 1° moves a cell by only a few µm against the others.
    regions = np.maximum(1, (extent_um / np.clip(side_um, *REGION_UM)).round()).astype(int)
    x_edges, y_edges = (np.linspace(low[axis], high[axis], regions[axis] + 1).round().astype(int).tolist() for axis in (0, 1))
    return x_edges, y_edges


def _correlate(texture: NDArray[np.float32], xy_px: ImagePixel, reach: int) -> Floats:
    """Return the correlation of nuclei shifted by −reach to reach pixels, (2 reach + 1)², rows for y."""
    nuclei = draw_nuclei(xy_px, texture.shape)
    image, template = texture - texture.mean(), nuclei - nuclei.mean()
    norm = float(np.linalg.norm(image) * np.linalg.norm(template)) or 1.0
    near = np.arange(-reach, reach + 1)
    return np.asarray(irfft2(rfft2(image) * np.conj(rfft2(template)), image.shape)[np.ix_(near, near)] / norm)


def _refine(values: Floats, peak: int) -> float:
    if not 0 < peak < len(values) - 1:
        return float(peak)
    left, middle, right = values[peak - 1 : peak + 2]
    curvature = left - 2 * middle + right
    return float(peak + (0.5 * (left - right) / curvature if curvature < 0 else 0.0))
