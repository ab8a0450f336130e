"""How well haematoxylin agrees with the nuclei, over the whole slide and by region, and by which shift it would agree best."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, rfft2
from scipy.ndimage import gaussian_filter

from nuclass_pipeline.config.image import RegistrationConfig
from nuclass_pipeline.data.alignment import Alignment
from nuclass_pipeline.data.image.resample import resample
from nuclass_pipeline.data.image.slide import HeImage
from nuclass_pipeline.units import ImagePixel, Micron

QC_MPP = 1.0
NUCLEUS_SIGMA_UM = 2.5
HAEMATOXYLIN = np.array([0.65, 0.70, 0.29])
"""Optical density of haematoxylin in red, green and blue (Ruifrok and Johnston 2001)."""
MIN_CORRELATION = 0.1
MAX_CHANCE_RATIO = 0.5
"""Share of the agreement that misplaced cells may reach: tissue lies on tissue even where an alignment is mirrored."""
REGION_CELLS = 1000
REGION_UM = (250.0, 1000.0)
"""Least and greatest side of a region, µm."""
MIN_REGION_CELLS = 150
"""With fewer cells in a region, the best of all shifts is good by chance."""
MAX_SHIFTED_SHARE = 0.2
"""Share of the clear regions that may be off."""
MIN_SHIFTED_REGIONS = 2
QC_BAND_PX = 1024


@dataclass(frozen=True)
class ShiftFit:
    """Agreement of haematoxylin with nuclei: unshifted, where it is best, and of misplaced cells where that is best.

    Attributes
    ----------
    shift_um
        What to add to the cells (x, y) for the best agreement, µm of the H&E frame.
    agreement, agreement_best
        Correlation of the cells as they lie, and after the shift.
    chance
        Best correlation of the same cells turned by 180° about their middle.
    """

    shift_um: tuple[float, float]
    agreement: float
    agreement_best: float
    chance: float

    @property
    def distance_um(self) -> float:
        """Length of the shift."""
        return float(np.hypot(*self.shift_um))

    @property
    def confidence(self) -> float:
        """What chance leaves of the agreement, 1 − chance / agreement_best, from 0 to 1."""
        return max(0.0, 1 - max(0.0, self.chance) / self.agreement_best) if self.agreement_best > 0 else 0.0

    @property
    def is_chance(self) -> bool:
        """Whether cells that are surely misplaced agree nearly as well."""
        return self.chance >= MAX_CHANCE_RATIO * self.agreement_best

    @property
    def is_clear(self) -> bool:
        """Whether the cells agree, and better than by chance."""
        return self.agreement_best >= MIN_CORRELATION and not self.is_chance


@dataclass(frozen=True)
class RegionFit:
    """Fit of the cells in one rectangle of the slide; corners (x, y) in µm of the H&E frame."""

    low_um: tuple[float, float]
    high_um: tuple[float, float]
    cells: int
    fit: ShiftFit

    def holds(self, xy_um: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Say which points, (N, 2) in µm of the H&E frame, lie in the region."""
        return np.asarray(((xy_um >= self.low_um) & (xy_um < self.high_um)).all(axis=1))

    def record(self) -> dict[str, Any]:
        """Give the region as it stands in `registration.json`."""
        return {
            "x_um": (self.low_um[0] + self.high_um[0]) / 2,
            "y_um": (self.low_um[1] + self.high_um[1]) / 2,
            "cells": self.cells,
            "shift_um": list(self.fit.shift_um),
            "agreement_best": self.fit.agreement_best,
            "confidence": self.fit.confidence,
            "clear": self.fit.is_clear,
        }


@dataclass(frozen=True)
class RegistrationFit:
    """Fit of the whole slide and of its regions."""

    whole: ShiftFit
    regions: tuple[RegionFit, ...]

    @property
    def clear(self) -> list[RegionFit]:
        """Regions whose cells agree better than by chance; the others tell nothing."""
        return [region for region in self.regions if region.fit.is_clear]

    def off(self, max_shift_um: float) -> list[RegionFit]:
        """Give the clear regions that are shifted by more than `max_shift_um`, if they are too many to be chance."""
        off = [region for region in self.clear if region.fit.distance_um > max_shift_um]
        return off if len(off) >= MIN_SHIFTED_REGIONS and len(off) > MAX_SHIFTED_SHARE * len(self.clear) else []

    def verdict(self, max_shift_um: float) -> str:
        """Call the slide `shifted`, as a whole or by regions, `unclear` where chance agrees half as well, or `good`.

        A turned, stretched or bent slide may be right in its middle: its regions tell. Two or more, and more than a fifth of the clear
        ones, must be off, which includes every slide whose median region is; one alone may be wrong.
        """
        if self.off(max_shift_um):
            return "shifted"
        if not self.whole.is_clear:
            return "unclear"
        return "shifted" if self.whole.distance_um > max_shift_um else "good"


def fit_registration(he: HeImage, mapping: Alignment, centroids: Micron, config: RegistrationConfig) -> RegistrationFit:
    """Fit the cells' centroids, (N, 2) in µm, to the haematoxylin, over the slide and by region.

    Blurred centroids stand for nuclei: at 1 µm per pixel their correlation recovers shifts within 1 µm, as
    `benchmarks/registration.py` shows, so that the polygons, which not every bundle has, would add nothing.
    """
    texture = sharpen(projected_density(he, mapping))
    xy_px = mapping.to_image(centroids, QC_MPP)
    return RegistrationFit(correlate_shifts(texture, xy_px, config.search_um), correlate_regions(texture, xy_px, config.search_um))


def projected_density(he: HeImage, mapping: Alignment) -> NDArray[np.float32]:
    """Return the haematoxylin optical density of the slide at `QC_MPP`, (height, width)."""
    bands = resample(he, mapping.mpp_he / QC_MPP, QC_BAND_PX)
    return np.concatenate([-np.log10((pixels.astype(np.float32) + 1) / 256) @ HAEMATOXYLIN.astype(np.float32) for pixels in bands])


def sharpen(density: NDArray[np.float32]) -> NDArray[np.float32]:
    """Keep what has the size of a nucleus in a density at `QC_MPP`, (height, width): a difference of Gaussians."""
    sigma = NUCLEUS_SIGMA_UM / QC_MPP
    return np.asarray(gaussian_filter(density, sigma) - gaussian_filter(density, 8 * sigma))


def draw_nuclei(xy_px: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Draw points, (N, 2) in pixels of `QC_MPP`, as blurred nuclei on an image of `shape` (height, width)."""
    height, width = shape
    dots, *_ = np.histogram2d(xy_px[:, 1], xy_px[:, 0], bins=(height, width), range=((0, height), (0, width)))
    return np.asarray(gaussian_filter(dots.astype(np.float32), NUCLEUS_SIGMA_UM / QC_MPP))


def correlate_shifts(texture: NDArray[np.float32], xy_px: ImagePixel, search_um: float) -> ShiftFit:
    """Correlate haematoxylin with blurred nuclei over all shifts up to `search_um`.

    Parameters
    ----------
    texture
        (height, width) at `QC_MPP`, from `sharpen`.
    xy_px
        (N, 2), pixels of `texture`.

    Returns
    -------
    Fit
        Resolution is `QC_MPP`, refined by a parabola.
    """
    reach = int(search_um / QC_MPP)
    surface = _correlate(texture, xy_px, reach)
    row, column = np.unravel_index(int(np.argmax(surface)), surface.shape)
    shift_px = (_refine(surface[row], int(column)) - reach, _refine(surface[:, column], int(row)) - reach)
    turned = ImagePixel(xy_px.min(axis=0) + xy_px.max(axis=0) - xy_px)
    return ShiftFit(
        shift_um=(shift_px[0] * QC_MPP, shift_px[1] * QC_MPP),
        agreement=float(surface[reach, reach]),
        agreement_best=float(surface[row, column]),
        chance=float(_correlate(texture, turned, reach).max()),
    )


def correlate_regions(texture: NDArray[np.float32], xy_px: ImagePixel, search_um: float) -> tuple[RegionFit, ...]:
    """Compare every region that has enough cells; arguments as for `compare`.

    Regions are nearly square, hold about `REGION_CELLS` cells, or a part of them where the slide is small, and are small
    enough that within them a turn by 1° moves no cell by more than a few µm.
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
    """Return the pixels between which the regions lie, along x and y."""
    low, high = xy_px.min(axis=0), xy_px.max(axis=0)
    extent_um = (high - low) * QC_MPP
    side_um = min(float(np.sqrt(extent_um.prod() * REGION_CELLS / len(xy_px))), float(extent_um.min()) / 2)
    parts = np.maximum(1, (extent_um / np.clip(side_um, *REGION_UM)).round()).astype(int)
    x_edges, y_edges = (np.linspace(low[axis], high[axis], parts[axis] + 1).round().astype(int).tolist() for axis in (0, 1))
    return x_edges, y_edges


def _correlate(texture: NDArray[np.float32], xy_px: ImagePixel, reach: int) -> NDArray[np.float64]:
    """Return the correlation of nuclei shifted by −reach to reach pixels, (2 reach + 1)², rows for y."""
    nuclei = draw_nuclei(xy_px, texture.shape)
    image, template = texture - texture.mean(), nuclei - nuclei.mean()
    norm = float(np.linalg.norm(image) * np.linalg.norm(template)) or 1.0
    near = np.arange(-reach, reach + 1)
    return np.asarray(irfft2(rfft2(image) * np.conj(rfft2(template)), image.shape)[np.ix_(near, near)] / norm)


def _refine(values: NDArray[np.float64], peak: int) -> float:
    if not 0 < peak < len(values) - 1:
        return float(peak)
    left, middle, right = values[peak - 1 : peak + 2]
    curvature = left - 2 * middle + right
    return float(peak + (0.5 * (left - right) / curvature if curvature < 0 else 0.0))
