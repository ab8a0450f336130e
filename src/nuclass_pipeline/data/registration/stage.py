"""Registration of an H&E: its alignment, checked before anything is cut from it."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from nuclass_pipeline.config.image import RegistrationConfig, SegmentationConfig
from nuclass_pipeline.data.alignment import Alignment, read_alignment
from nuclass_pipeline.data.image.slide import HeImage
from nuclass_pipeline.data.registration.correlation import RegistrationFit, fit_registration
from nuclass_pipeline.data.registration.nuclei_check import NucleiCheck, check_nuclei
from nuclass_pipeline.data.registration.overlay import write_shift
from nuclass_pipeline.data.segmentation.methods import make_segmenter
from nuclass_pipeline.data.xenium.read import read_manifest
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_table, write_json
from nuclass_pipeline.schemas import CELLS
from nuclass_pipeline.units import HePixel, Micron

logger = logging.getLogger(__name__)

FAILED = "registration_failed.png"
MAX_MPP_DIFFERENCE = 0.02
"""Share by which the pixel size in the file may differ from that of the alignment without a warning."""


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
    """Read the alignment, check it by haematoxylin and by the nuclei of the H&E, and write `registration.json`.

    A shifted slide leaves no `registration.json`, but `registration_failed.png` in its folder: the H&E with the cells as aligned, and
    after the best shift. The next run removes it.

    Parameters
    ----------
    manifest, cells
        `experiment.xenium` of the bundle, and table `CELLS`.
    image, alignment
        The H&E, and its matrix or keypoint file; without a file, the H&E is in Xenium pixels.
    config, segmentation
        Limits of the check, and method of the nuclei check.
    gpu
        Whether to use the GPU, where the method can.
    registration
        JSON with the alignment, the best shift, its correlation, and the verdict, `good` or `unclear`. It is `unclear` if cells turned by
        180° correlate half as well, or if the nuclei clearly contradict the haematoxylin.

    Raises
    ------
    UserError
        If the best shift of the slide, or of too many regions, is larger than `config.max_shift_um`, or no cell lies on the image.
    """
    picture = registration.with_name(FAILED)
    picture.unlink(missing_ok=True)
    mapping = read_alignment(alignment, float(read_manifest(manifest)["pixel_size"]))
    centroids = Micron(read_table(cells, CELLS)[["x_um", "y_um"]].to_numpy())
    with HeImage(image) as he:
        if fraction_inside(mapping.to_he(centroids), he.shape) == 0:
            remedy = "Check that the alignment belongs to this H&E and this bundle."
            raise UserError(alignment or image, "matrix", "places every cell outside the H&E", remedy)
        found = fit_registration(he, mapping, centroids, config)
        if found.verdict(config.max_shift_um) == "shifted":
            write_shift(he, mapping, centroids, manifest.parent, found, config.max_shift_um, picture)
            remedy = f"Look at {picture}, then align the H&E again, or raise registration.max_shift_um."
            raise UserError(alignment or image, "matrix", describe_shift(found, config.max_shift_um), remedy)
        nuclei = run_nuclei_check(he, mapping, centroids, config, segmentation, gpu)
        record = describe_registration(he, mapping, centroids, found)
    embedded = record["embedded_mpp"]
    if embedded and abs(embedded / mapping.mpp_he - 1) > MAX_MPP_DIFFERENCE:
        logger.warning("%s claims %.4f µm/px, the alignment has %.4f, which is used", image, embedded, mapping.mpp_he)
    reason = why_unclear(found, nuclei, config.max_shift_um)
    if reason:
        logger.warning("%s: %s: look at it with `nuclass check --overlay`", image, reason)
    write_json(record | {"verdict": "unclear" if reason else "good", "nuclei": nuclei.record() if nuclei else None}, registration)


def describe_shift(found: RegistrationFit, max_shift_um: float) -> str:
    """Return in words how far a shifted slide lies off: the median of its shifted regions, or the whole."""
    shifted = found.shifted_regions(max_shift_um)
    distance_um = np.median([region.fit.distance_um for region in shifted] or found.whole.distance_um)
    where = f" in {len(shifted)} of {len(found.clear)} regions" if shifted else ""
    return f"the H&E lies {distance_um:.1f} µm off the nuclei{where}"


def why_unclear(found: RegistrationFit, nuclei: NucleiCheck | None, max_shift_um: float) -> str:
    """Return in words why a slide that is not shifted is unclear; empty if it is good."""
    fit = found.whole
    if found.verdict(max_shift_um) == "unclear":
        return f"correlation {fit.correlation_best:.2f} with the cells, {fit.correlation_chance:.2f} by chance"
    if nuclei and nuclei.contradicts(fit, max_shift_um):
        x_um, y_um = nuclei.fit.shift_um
        by_haematoxylin = f"by haematoxylin the cells are shifted by ({fit.shift_um[0]:.1f}, {fit.shift_um[1]:.1f}) µm"
        return f"{by_haematoxylin}, by the nuclei found on it ({x_um:.1f}, {y_um:.1f})"
    return ""


def describe_registration(he: HeImage, mapping: Alignment, centroids: Micron, found: RegistrationFit) -> dict[str, Any]:
    """Return the entries of `registration.json` on the alignment, the image and the correlation."""
    fit = found.whole
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
        "correlation": fit.correlation,
        "correlation_best": fit.correlation_best,
        "correlation_chance": fit.correlation_chance,
        "confidence": fit.confidence,
        "regions": [region.record() for region in found.regions],
    }


def run_nuclei_check(
    he: HeImage, mapping: Alignment, centroids: Micron, config: RegistrationConfig, segmentation: SegmentationConfig, gpu: bool
) -> NucleiCheck | None:
    """Return the result of the nuclei check; None if `config.windows` is 0."""
    if not config.windows:
        return None
    segmenter = make_segmenter(segmentation, mapping.mpp_he, gpu=gpu)
    return check_nuclei(he, mapping, centroids, segmenter, config.windows, config.search_um)


def fraction_inside(xy_px: HePixel, shape: tuple[int, int]) -> float:
    """Return the share of points, (N, 2), that lie within an image of `shape` (height, width)."""
    return float(((xy_px >= 0) & (xy_px < (shape[1], shape[0]))).all(axis=1).mean())
