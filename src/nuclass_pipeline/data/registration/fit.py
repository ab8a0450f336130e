"""Fit of the cells of a slide to the haematoxylin of its H&E, and what follows for the registration."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nuclass_pipeline.arrays import Booleans, Floats
from nuclass_pipeline.config.image import RegistrationConfig
from nuclass_pipeline.data.alignment import Alignment
from nuclass_pipeline.data.image.resample import resample
from nuclass_pipeline.data.image.slide import HeImage
from nuclass_pipeline.data.image.stain import projected_density
from nuclass_pipeline.data.registration.affine import MIN_AFFINE_CELLS, AffineFit, fit_affine
from nuclass_pipeline.data.registration.correlation import (
    QC_MPP,
    RegionFit,
    ShiftFit,
    correlate_regions,
    correlate_shifts,
    draw_nuclei,
    sharpen,
)
from nuclass_pipeline.data.registration.coverage import find_matching
from nuclass_pipeline.units import ImagePixel, Micron

Verdict = Literal["good", "shifted", "unclear"]

# Two regions and a fifth, because a single region may be wrong, and a slide that is turned about its middle is right there.
MAX_SHIFTED_SHARE = 0.2
"""Share of the clear regions, and of the cells under the best affine map, that may be shifted."""
MIN_SHIFTED_REGIONS = 2
# Two thirds, because a slide with half of its H&E blank reaches 0.63, and every sound one 0.99 (benchmarks/registration_errors.py).
MIN_MATCHED = 2 / 3
"""Share of the cells that must lie where the H&E has nuclei in the same places."""
# Above all that keypoints set by hand leave over a slide, while the limit in micrometers hides it on a small one.
MAX_TURN_DEG, MAX_STRAIN = 0.75, 0.0125
"""Turn in degrees, and stretch or shear as a share, above which a good slide has a warning."""
QC_BAND_PX = 1024


@dataclass(frozen=True)
class RegistrationFit:
    """Fit of a slide.

    Attributes
    ----------
    whole
        Fit of all cells.
    regions
        Fits of regions with enough cells.
    affine
        The best affine map; None where the whole is not clear, or has few cells.
    shifted_cells
        Share of the cells that this map moves by more than the largest shift allowed.
    matched
        Share of the cells that lie, after their shift, where the H&E has nuclei in the same places.
    few_cells
        Number of those cells where it is too low for an affine map; None where it is not.
    """

    whole: ShiftFit
    regions: tuple[RegionFit, ...]
    affine: AffineFit | None = None
    shifted_cells: float = 0.0
    matched: float = 1.0
    few_cells: int | None = None

    @property
    def clear(self) -> list[RegionFit]:
        """Regions whose fit is clear; the others are not used."""
        return [region for region in self.regions if region.fit.is_clear]

    def shifted_regions(self, max_shift_um: float) -> list[RegionFit]:
        """Return the clear regions shifted by more than `max_shift_um`; none if they are one alone or up to a fifth of the clear ones."""
        shifted = [region for region in self.clear if region.fit.distance_um > max_shift_um]
        return shifted if len(shifted) >= MIN_SHIFTED_REGIONS and len(shifted) > MAX_SHIFTED_SHARE * len(self.clear) else []

    def verdict(self, max_shift_um: float) -> Verdict:
        """Return `shifted`, `unclear` or `good`.

        A slide is shifted if the whole, too many of its regions or too many of its cells are: one that is turned, sheared or bent may be
        right in its middle. It is unclear if misplaced cells reach half of its correlation or more, or if many cells match no nuclei.
        """
        if self.shifted_regions(max_shift_um):
            return "shifted"
        if not self.whole.is_clear:
            return "unclear"
        if self.whole.distance_um > max_shift_um or self.shifted_cells > MAX_SHIFTED_SHARE:
            return "shifted"
        return "good" if self.matched >= MIN_MATCHED else "unclear"

    def warn(self) -> str:
        """Return in words how the cells are turned or strained against the H&E, or that this is unknown; empty where they are not."""
        if self.few_cells is not None:
            needed = f"at least {MIN_AFFINE_CELLS} are needed to measure a turn or shear, which may stay unseen"
            return f"only {self.few_cells} cells lie in tissue with nuclei in the same places, and {needed}"
        if self.affine is None or (abs(self.affine.turn_deg) <= MAX_TURN_DEG and self.affine.strain <= MAX_STRAIN):
            return ""
        strained = f"strained by {100 * self.affine.strain:.1f} %"
        return f"the cells fit the H&E best turned by {self.affine.turn_deg:.1f}° and {strained}; align it again if it matters at its edges"


def fit_registration(he: HeImage, mapping: Alignment, centroids: Micron, config: RegistrationConfig) -> RegistrationFit:
    """Fit the cells to the haematoxylin of the H&E, over the slide and by region.

    Parameters
    ----------
    he, mapping
        The H&E and its alignment.
    centroids
        Cells, (N, 2) in µm of the Xenium frame.
    config
        Largest shift allowed, and largest shift searched.
    """
    # Centroids, because not every bundle has polygons, and these would add nothing (benchmarks/registration.py).
    return fit_texture(sharpen(slide_density(he, mapping)), mapping.to_image(centroids, QC_MPP), config)


def fit_texture(texture: NDArray[np.float32], xy_px: ImagePixel, config: RegistrationConfig) -> RegistrationFit:
    """Fit cells, (N, 2) in px, to the texture of an H&E, (height, width) at `QC_MPP`; see `fit_registration`."""
    whole = correlate_shifts(texture, xy_px, config.search_um)
    regions = correlate_regions(texture, xy_px, config.search_um)
    shift_px = (whole.shift_um[0] / QC_MPP, whole.shift_um[1] / QC_MPP)

    def match(moved: Floats) -> tuple[Booleans, float]:
        return find_matching(texture, draw_nuclei(moved, texture.shape), moved, whole.correlation_best)

    matching, share = match(xy_px + shift_px)
    # Of the cells that match nuclei, because those on blank glass would be drawn to the next tissue.
    affine = fit_affine(texture, ImagePixel(xy_px[matching]), shift_px) if whole.is_clear else None
    if affine is None:
        return RegistrationFit(whole, regions, matched=share, few_cells=int(matching.sum()) if whole.is_clear else None)
    shifts_px = affine.shifts_px(xy_px)
    shifted_cells = float((np.hypot(*shifts_px.T) * QC_MPP > config.max_shift_um).mean())
    return RegistrationFit(whole, regions, affine, shifted_cells, match(xy_px + shifts_px)[1])


def slide_density(he: HeImage, mapping: Alignment) -> NDArray[np.float32]:
    """Return the optical density of the slide at `QC_MPP`, projected on haematoxylin, (height, width)."""
    return np.concatenate([projected_density(pixels) for pixels in resample(he, mapping.mpp_he / QC_MPP, QC_BAND_PX)])


def describe_fit(found: RegistrationFit) -> dict[str, Any]:
    """Return the entries of `registration.json` on the correlation."""
    fit, affine = found.whole, found.affine
    return {
        "shift_um": list(fit.shift_um),
        "correlation": fit.correlation,
        "correlation_best": fit.correlation_best,
        "correlation_chance": fit.correlation_chance,
        "confidence": fit.confidence,
        "turn_deg": affine.turn_deg if affine else None,
        "strain": affine.strain if affine else None,
        "shifted_cells": found.shifted_cells,
        "matched_cells": found.matched,
        "regions": [region.record() for region in found.regions],
    }
