"""Registration of an H&E: its alignment, checked before anything is cut from it."""

import logging
from pathlib import Path
from typing import Any

from nuclass_pipeline.config.image import RegistrationConfig, SegmentationConfig
from nuclass_pipeline.data.alignment import Alignment, read_alignment
from nuclass_pipeline.data.image.slide import HeImage
from nuclass_pipeline.data.registration.fit import describe_fit
from nuclass_pipeline.data.registration.geometry import likely_mistake, refuse_impossible, square_pixels
from nuclass_pipeline.data.registration.overlay import write_shift
from nuclass_pipeline.data.registration.verdict import Examination, examine
from nuclass_pipeline.data.xenium.read import read_manifest
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_table, write_json
from nuclass_pipeline.schemas import CELLS
from nuclass_pipeline.units import Micron

logger = logging.getLogger(__name__)

FAILED = "registration_failed.png"
MAX_MPP_DIFFERENCE = 0.02
"""Share by which the pixel size in the file may differ from that of the alignment without a warning."""


def register_image(
    *,
    slide: str,
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

    A slide that is refused leaves no `registration.json`, but `registration_failed.png` in its folder: the H&E with the cells as aligned,
    and after the best shift. The next run removes it.

    Parameters
    ----------
    slide
        Its name, as in `config.accept_unclear`.
    manifest, cells
        `experiment.xenium` of the bundle, and table `CELLS`.
    image, alignment
        The H&E, and its matrix or keypoint file; without a file, the H&E is in Xenium pixels.
    config, segmentation
        Limits of the check, and method of the nuclei check.
    gpu
        Whether to use the GPU, where the method can.
    registration
        JSON with the alignment, the best shift, its correlation, and the verdict: `good`, or `unclear` if the slide is accepted.

    Raises
    ------
    UserError
        If the alignment cannot be right, the H&E is shifted, or it is unclear whether it fits and the slide is not accepted.
    """
    picture = registration.with_name(FAILED)
    picture.unlink(missing_ok=True)
    mapping = read_alignment(alignment, float(read_manifest(manifest)["pixel_size"]))
    centroids = Micron(read_table(cells, CELLS)[["x_um", "y_um"]].to_numpy())
    with HeImage(image) as opened:
        he, stored = square_pixels(opened, mapping)
        mapping = stored.squared
        refuse_impossible(he, mapping, centroids, config.max_shift_um, alignment or image)
        found = examine(he, mapping, centroids, config, segmentation, gpu)
        accepted = found.verdict == "unclear" and slide in config.accept_unclear
        if found.verdict != "good" and not accepted:
            write_shift(he, mapping, centroids, manifest.parent, found.fit, config.max_shift_um, picture)
            problem = found.reason + likely_mistake(he, mapping, centroids, config.search_um)
            raise UserError(alignment or image, "matrix", problem, _remedy(found, slide, picture))
        record = describe_image(he, stored) | {"cells_inside": found.inside} | describe_fit(found.fit)
    verdict = {"verdict": found.verdict, "accepted": accepted, "warnings": _warn(found, he, mapping)}
    write_json(record | verdict | {"nuclei": found.nuclei.record() if found.nuclei else None}, registration)


def _warn(found: Examination, he: HeImage, mapping: Alignment) -> list[str]:
    """Log what is unusual about a slide that goes on, and return what its results depend on."""
    # The pixel size in the log alone, because half of all public files have a wrong one and nothing depends on it.
    for warning in filter(None, (*found.warnings, _compare_sizes(he, mapping))):
        logger.warning("%s: %s", he.path, warning)
    return found.warnings


def _remedy(found: Examination, slide: str, picture: Path) -> str:
    if found.verdict == "shifted":
        return f"Look at {picture}, then align the H&E again, or raise registration.max_shift_um."
    accept = f"if the picture is right, set `registration: {{accept_unclear: [{slide}]}}` in the run file"
    return f"Look at {picture}, then correct the H&E or its alignment; {accept}."


def _compare_sizes(he: HeImage, mapping: Alignment) -> str:
    """Return in words how the pixel size in the file differs from that of the alignment; empty where it does not."""
    claimed = he.embedded_mpp
    if not claimed or abs(claimed / mapping.mpp_he - 1) <= MAX_MPP_DIFFERENCE:
        return ""
    return f"the file claims {claimed:.4f} µm/px, the alignment has {mapping.mpp_he:.4f}, which is used"


def describe_image(he: HeImage, mapping: Alignment) -> dict[str, Any]:
    """Return the entries of `registration.json` on the alignment and the image, both with pixels as stored."""
    return {
        "matrix": mapping.matrix.tolist(),
        "xenium_mpp": mapping.xenium_mpp,
        "mpp_he": mapping.mpp_he,
        "sides_um": mapping.sides_um,
        "embedded_mpp": he.embedded_mpp,
        "rotation_deg": mapping.rotation_deg,
        "reflected": mapping.reflected,
        "residual_um": mapping.residual_um,
        "height_px": he.size(0)[0],
        "width_px": he.size(0)[1],
    }
