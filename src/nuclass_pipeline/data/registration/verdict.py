"""The verdict on a registration: `good`, `shifted` or `unclear`, with its reason, for the workflow and for `nuclass check`."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nuclass_pipeline.config.image import RegistrationConfig, SegmentationConfig
from nuclass_pipeline.data.alignment import Alignment
from nuclass_pipeline.data.image.slide import HeImage
from nuclass_pipeline.data.registration.colors import NuclearContrast, nuclear_contrast
from nuclass_pipeline.data.registration.correlation import MIN_CORRELATION
from nuclass_pipeline.data.registration.fit import MIN_MATCHED, RegistrationFit, Verdict, fit_registration
from nuclass_pipeline.data.registration.geometry import MIN_INSIDE, fraction_inside
from nuclass_pipeline.data.registration.nuclei_check import NucleiCheck, check_nuclei
from nuclass_pipeline.data.segmentation.methods import make_segmenter
from nuclass_pipeline.units import Micron

# Below every sound slide, because these reach 0.99 (benchmarks/registration_errors.py).
FEW_CELLS = 0.95
"""Share of the cells on the H&E, and of those that match nuclei, below which there is a warning."""


@dataclass(frozen=True)
class Examination:
    """What was measured on a slide.

    Attributes
    ----------
    inside
        Share of the cells on the H&E.
    fit
        Fit of the cells to the haematoxylin.
    contrast
        Colors of the nuclei.
    nuclei
        Result of the nuclei check; None if it is turned off.
    max_shift_um
        Largest shift allowed.
    """

    inside: float
    fit: RegistrationFit
    contrast: NuclearContrast
    nuclei: NucleiCheck | None
    max_shift_um: float

    @property
    def verdict(self) -> Verdict:
        """The verdict: that of the fit, or `unclear` where a good one has a reason against it."""
        found = self.fit.verdict(self.max_shift_um)
        return "unclear" if found == "good" and self.reason else found

    @property
    def reason(self) -> str:
        """In words, why the slide is not good; empty if it is."""
        if self.fit.verdict(self.max_shift_um) == "shifted":
            return describe_shift(self.fit, self.max_shift_um)
        return next(self._warnings(), "")

    @property
    def warnings(self) -> list[str]:
        """In words, what the results depend on if the slide goes on: each reason against it, few cells that fit, and a turn."""
        return [*self._warnings(), *self._remarks()]

    def _remarks(self) -> Iterator[str]:
        # Not below the limits, because there the same shares are reasons against the slide.
        if MIN_INSIDE <= self.inside < FEW_CELLS:
            yield f"only {100 * self.inside:.1f} % of the cells lie on the H&E: it may be cut, or belong to a part of the slide"
        if MIN_MATCHED <= self.fit.matched < FEW_CELLS:
            yield f"only {100 * self.fit.matched:.1f} % of the cells match nuclei: part of the H&E may be missing or of another place"
        if turned := self.fit.warn():
            yield turned

    def _warnings(self) -> Iterator[str]:
        fit, contrast = self.fit.whole, self.contrast
        if self.inside < MIN_INSIDE:
            yield f"only {100 * self.inside:.0f} % of the cells lie on the H&E, at least {100 * MIN_INSIDE:.0f} % are needed"
        if contrast.looks_exchanged:
            densities = f"nuclei absorb blue ({contrast.blue:.2f}) more than red ({contrast.red:.2f})"
            yield f"{densities}, so red and blue look exchanged: export the H&E as RGB"
        if not fit.is_clear:
            needed = f"at least {MIN_CORRELATION:g} and twice that by chance are needed"
            yield f"correlation {fit.correlation_best:.2f} with the cells, {fit.correlation_chance:.2f} by chance, {needed}"
        if self.fit.matched < MIN_MATCHED:
            share = f"only {100 * self.fit.matched:.0f} % of the cells lie on tissue with nuclei in the same places"
            yield f"{share}, at least {100 * MIN_MATCHED:.0f} % are needed"
        if self.nuclei and self.nuclei.contradicts(fit, self.max_shift_um):
            x_um, y_um = self.nuclei.fit.shift_um
            by_haematoxylin = f"by haematoxylin the cells are shifted by ({fit.shift_um[0]:.1f}, {fit.shift_um[1]:.1f}) µm"
            yield f"{by_haematoxylin}, by the nuclei found on it ({x_um:.1f}, {y_um:.1f})"


def examine(
    he: HeImage, mapping: Alignment, centroids: Micron, config: RegistrationConfig, segmentation: SegmentationConfig, gpu: bool
) -> Examination:
    """Return how well the H&E fits the cells, (N, 2) in µm of the Xenium frame; see `register_image` for the other parameters."""
    fit = fit_registration(he, mapping, centroids, config)
    return Examination(
        inside=fraction_inside(mapping.to_he(centroids), he.shape),
        fit=fit,
        contrast=nuclear_contrast(he, mapping, centroids, fit.whole.shift_um),
        nuclei=run_nuclei_check(he, mapping, centroids, config, segmentation, gpu),
        max_shift_um=config.max_shift_um,
    )


def run_nuclei_check(
    he: HeImage, mapping: Alignment, centroids: Micron, config: RegistrationConfig, segmentation: SegmentationConfig, gpu: bool
) -> NucleiCheck | None:
    """Return the result of the nuclei check; None if `config.windows` is 0."""
    if not config.windows:
        return None
    segmenter = make_segmenter(segmentation, mapping.mpp_he, gpu=gpu)
    return check_nuclei(he, mapping, centroids, segmenter, config.windows, config.search_um)


def describe_shift(found: RegistrationFit, max_shift_um: float) -> str:
    """Return in words how far a shifted slide lies off: the median of its shifted regions, or the whole, or its turn."""
    shifted = found.shifted_regions(max_shift_um)
    if not shifted and found.whole.distance_um <= max_shift_um and found.affine:
        turned = f"turned by {found.affine.turn_deg:.1f}° and strained by {100 * found.affine.strain:.1f} % against the nuclei"
        return f"the H&E is {turned}: {100 * found.shifted_cells:.0f} % of the cells lie more than {max_shift_um:g} µm off"
    distance_um = np.median([region.fit.distance_um for region in shifted] or found.whole.distance_um)
    where = f" in {len(shifted)} of {len(found.clear)} regions" if shifted else ""
    return f"the H&E lies {distance_um:.1f} µm off the nuclei{where}"
