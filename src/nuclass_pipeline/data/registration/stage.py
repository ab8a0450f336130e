"""Check that the H&E lies on the nuclei before anything is cut from it."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from nuclass_pipeline.config.image import RegistrationConfig, SegmentationConfig
from nuclass_pipeline.data.alignment import Alignment, read_alignment
from nuclass_pipeline.data.image.pictures import densest_square, draw_detail, nuclei_of_bundle, write_pair
from nuclass_pipeline.data.image.slide import HeImage
from nuclass_pipeline.data.registration.correlation import RegistrationFit, fit_registration
from nuclass_pipeline.data.registration.nuclei_check import NucleiCheck, check_nuclei
from nuclass_pipeline.data.segmentation.methods import make_segmenter
from nuclass_pipeline.data.xenium.read import read_manifest
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_table, write_json
from nuclass_pipeline.schemas import CELLS
from nuclass_pipeline.units import HePixel, Micron

logger = logging.getLogger(__name__)

FAILED = "registration_failed.png"
PICTURE_UM = 125.0


def register_image(
    *,
    manifest: Path,
    cells: Path,
    image: Path,
    alignment: Path | None = None,
    config: RegistrationConfig,
    segmentation: SegmentationConfig,
    gpu: bool = False,
    registration: Path,
) -> None:
    """Read the alignment, compare haematoxylin and then the nuclei of the H&E with the cells, and write `registration.json`.

    The nuclei are a second opinion: a slide that haematoxylin calls good is unclear if they clearly lie elsewhere.

    A slide that is off leaves no `registration.json`, but `registration_failed.png` beside it: the H&E with the cells as they
    lie, and as they would after the best shift. The next run removes it.

    Raises
    ------
    UserError
        If the best shift, of the slide or of too many regions, is larger than `config.max_shift_um`, or no cell lies on the image.
    """
    picture = registration.with_name(FAILED)
    picture.unlink(missing_ok=True)
    mapping = read_alignment(alignment, float(read_manifest(manifest)["pixel_size"]))
    centroids = Micron(read_table(cells, CELLS)[["x_um", "y_um"]].to_numpy())
    with HeImage(image) as he:
        if fraction_inside(mapping.to_he(centroids), he.shape) == 0:
            raise UserError(alignment or image, "matrix", "places every cell outside the H&E", "Is it the alignment of this slide?")
        agreement = fit_registration(he, mapping, centroids, config)
        verdict = agreement.verdict(config.max_shift_um)
        if verdict == "shifted":
            problem = draw_shift(he, mapping, centroids, manifest.parent, agreement, config.max_shift_um, picture)
            remedy = f"Look at {picture}, then align it again, or raise registration.max_shift_um."
            raise UserError(alignment or image, "matrix", problem, remedy)
        opinion = run_nuclei_check(he, mapping, centroids, config, segmentation, gpu)
        record = describe_registration(he, mapping, centroids, agreement)
    fit, embedded = agreement.whole, record["embedded_mpp"]
    if embedded and abs(embedded / mapping.mpp_he - 1) > 0.02:
        logger.warning("%s claims %.4f µm/px, the alignment says %.4f; the alignment holds", image, embedded, mapping.mpp_he)
    if verdict == "unclear":
        told = f"agreement {fit.agreement_best:.2f} with the cells, {fit.chance:.2f} by chance"
        logger.warning("%s: %s: look at it (nuclass check)", image, told)
    elif opinion and opinion.contradicts(fit, config.max_shift_um):
        verdict = "unclear"
        told = "by haematoxylin the cells lie ({:.1f}, {:.1f}) µm off, by the nuclei found on it ({:.1f}, {:.1f})"
        logger.warning("%s: %s: look at it (nuclass check)", image, told.format(*fit.shift_um, *opinion.fit.shift_um))
    write_json(record | {"verdict": verdict, "nuclei": opinion.record() if opinion else None}, registration)


def describe_registration(he: HeImage, mapping: Alignment, centroids: Micron, agreement: RegistrationFit) -> dict[str, Any]:
    """Give alignment, image and agreement as they stand in `registration.json`."""
    fit = agreement.whole
    return {
        "matrix": mapping.matrix.tolist(),
        "xenium_mpp": mapping.xenium_mpp,
        "mpp_he": mapping.mpp_he,
        "embedded_mpp": he.embedded_mpp,
        "rotation_deg": mapping.rotation_deg,
        "reflected": mapping.reflected,
        "residual_um": mapping.residual_um,
        "height_px": he.shape[0],
        "width_px": he.shape[1],
        "cells_inside": fraction_inside(mapping.to_he(centroids), he.shape),
        "shift_um": list(fit.shift_um),
        "agreement": fit.agreement,
        "agreement_best": fit.agreement_best,
        "agreement_chance": fit.chance,
        "confidence": fit.confidence,
        "regions": [region.record() for region in agreement.regions],
    }


def run_nuclei_check(
    he: HeImage, mapping: Alignment, centroids: Micron, config: RegistrationConfig, segmentation: SegmentationConfig, gpu: bool
) -> NucleiCheck | None:
    """Ask the nuclei of the H&E, unless the run file does without."""
    if not config.windows:
        return None
    segmenter = make_segmenter(segmentation, mapping.mpp_he, gpu=gpu)
    return check_nuclei(he, mapping, centroids, segmenter, config.windows, config.search_um)


def fraction_inside(xy_px: HePixel, shape: tuple[int, int]) -> float:
    """Return the share of points, (N, 2), that lie within an image of `shape` (height, width)."""
    return float(((xy_px >= 0) & (xy_px < (shape[1], shape[0]))).all(axis=1).mean())


def draw_shift(
    he: HeImage, mapping: Alignment, centroids: Micron, bundle: Path, agreement: RegistrationFit, max_shift_um: float, picture: Path
) -> str:
    """Draw cells and nuclei of a shifted slide as they lie and after the best shift, where cells are densest; return the fault in words."""
    xy_px = mapping.to_he(centroids)
    off = agreement.off(max_shift_um)
    problem = f"the H&E lies {np.median([part.fit.distance_um for part in off] or agreement.whole.distance_um):.1f} µm off the nuclei"
    fit, shown_px = agreement.whole, xy_px
    if off:
        problem += f" in {len(off)} of {len(agreement.clear)} regions"
        region = max(off, key=lambda part: part.cells)
        fit, shown_px = region.fit, HePixel(xy_px[region.holds(xy_px * mapping.mpp_he)])
    window = densest_square(shown_px, PICTURE_UM, mapping.mpp_he, he.shape)
    outlines, shift_px = nuclei_of_bundle(bundle, mapping, *window), np.array(fit.shift_um) / mapping.mpp_he
    moved_px, moved = HePixel(xy_px + shift_px), [HePixel(outline + shift_px) for outline in outlines]
    as_aligned = draw_detail(he, xy_px, outlines, *window, "cells as aligned")
    write_pair(as_aligned, draw_detail(he, moved_px, moved, *window, f"cells moved by {fit.distance_um:.1f} micrometres"), picture)
    return problem
