"""The alignment of an H&E with its cells, and the pixel size that follows from it.

10x's `*_he_imagealignment.csv` holds the matrix M. It maps H&E pixel (x, y, 1) to pixel of the Xenium morphology image.
Coordinates and pixel size follow from it::

    µm = xenium_mpp · (M @ [x, y, 1])
    pixel size of the H&E = xenium_mpp · sqrt(|det M[:2, :2]|)
"""

import csv
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_json, require
from nuclass_pipeline.units import HePixel, ImagePixel, Micron

logger = logging.getLogger(__name__)

KEYPOINTS = ("fixedX", "fixedY", "alignmentX", "alignmentY")
EXPORT_ALIGNMENT = "Export the alignment again from Xenium Explorer."
# Far beyond all scanners, because the bounds must only catch a wrong unit or the alignment of another image.
MIN_MPP, MAX_MPP = 0.01, 10
"""Pixel sizes of microscopes, µm."""
MAX_OFFSET_PX = 1e9
# Above rounding, because keypoints on one line leave the map across it undetermined.
MIN_SPREAD = 1e-3
"""Smallest extent of keypoints across the line through them, as a share of that along it."""
MAX_STRETCH = 1.05
"""Ratio of the scales of the two axes above which a warning is logged."""


@dataclass(frozen=True)
class Alignment:
    """An affine map from H&E pixels to Xenium pixels.

    Attributes
    ----------
    matrix
        H&E pixel (x, y, 1) → Xenium pixel (x, y, 1), (3, 3).
    xenium_mpp
        Pixel size of the Xenium morphology image, µm.
    residual_um
        Root mean square distance of keypoints after the fit, µm; 0 for a matrix file.
    """

    matrix: Floats
    xenium_mpp: float
    residual_um: float = 0.0

    @property
    def mpp_he(self) -> float:
        """Pixel size of the H&E, µm."""
        # Times the scale, because the matrix maps H&E pixels to Xenium pixels; the public reference divides (docs/method.md).
        return self.xenium_mpp * math.sqrt(abs(float(np.linalg.det(self.matrix[:2, :2]))))

    @property
    def rotation_deg(self) -> float:
        """Rotation from the H&E to the Xenium image, degrees, counter-clockwise with y down."""
        return math.degrees(math.atan2(self.matrix[1, 0], self.matrix[0, 0]))

    @property
    def reflected(self) -> bool:
        """Whether one image is the mirror image of the other."""
        return float(np.linalg.det(self.matrix[:2, :2])) < 0

    def to_he(self, xy_um: Micron) -> HePixel:
        """Return points of the Xenium frame, (N, 2), in pixels of the H&E."""
        return HePixel(_apply(np.linalg.inv(self.matrix), np.asarray(xy_um) / self.xenium_mpp))

    def to_um(self, xy_px: HePixel) -> Micron:
        """Return points of the H&E, (N, 2), in µm of the Xenium frame."""
        return Micron(_apply(self.matrix, xy_px) * self.xenium_mpp)

    def to_image(self, xy_um: Micron, image_mpp: float) -> ImagePixel:
        """Return points of the Xenium frame, (N, 2), in pixels of the H&E resampled to `image_mpp`, µm."""
        return ImagePixel(self.to_he(xy_um) * (self.mpp_he / image_mpp))


def _apply(matrix: NDArray[Any], xy: NDArray[Any]) -> Floats:
    return np.asarray(xy @ matrix[:2, :2].T + matrix[:2, 2])


def read_alignment(path: Path | str | None, xenium_mpp: float) -> Alignment:
    """Read a matrix or keypoint file of Xenium Explorer; without a file, the H&E is in Xenium pixels of `xenium_mpp`, µm.

    Raises
    ------
    UserError
        If the file is neither, or its map cannot be inverted or gives the H&E a pixel size that no microscope has.
    """
    if not path:
        return Alignment(np.eye(3), xenium_mpp)
    try:
        with require(path).open(newline="") as stream:
            rows = [[cell.strip() for cell in row] for row in csv.reader(stream) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(path, "file", f"not a readable CSV ({error})", EXPORT_ALIGNMENT) from error
    if rows and tuple(rows[0]) == KEYPOINTS:
        return _fit_keypoints(path, _numbers(path, rows[1:], 4), xenium_mpp)
    matrix = _numbers(path, rows, 3)
    if matrix.shape != (3, 3) or not np.allclose(matrix[2], (0, 0, 1)):
        problem = f"{len(rows)} rows, last {rows[-1] if rows else []}, not a 3 × 3 matrix that ends with 0,0,1"
        raise UserError(path, "matrix", problem, EXPORT_ALIGNMENT)
    return _checked(path, Alignment(matrix, xenium_mpp))


def _numbers(path: Path | str, rows: list[list[str]], columns: int) -> Floats:
    for number, row in enumerate(rows, start=1):
        if len(row) != columns:
            raise UserError(path, f"row {number}", f"has {len(row)} values, not {columns}", EXPORT_ALIGNMENT)
    try:
        values = np.array(rows, dtype=np.float64)
    except ValueError as error:
        raise UserError(path, "matrix", str(error), EXPORT_ALIGNMENT) from error
    if not (np.abs(values) < MAX_OFFSET_PX).all():
        raise UserError(path, "matrix", f"has a value that is not finite, or huge (above {MAX_OFFSET_PX:g})", EXPORT_ALIGNMENT)
    return values


def _fit_keypoints(path: Path | str, points: Floats, xenium_mpp: float) -> Alignment:
    if len(points) < 3:
        raise UserError(path, "keypoints", f"{len(points)} pairs, at least 3 are needed", "Add keypoints in Xenium Explorer.")
    fixed, moving = points[:, :2], points[:, 2:]
    along, across = np.linalg.svd(moving - moving.mean(axis=0), compute_uv=False)
    if across <= MIN_SPREAD * along:
        raise UserError(path, "keypoints", "lie on one line, so that their map is singular", "Spread the keypoints over the slide.")
    # By all pairs, because a map through the first three would take over their errors.
    design = np.column_stack([moving, np.ones(len(moving))])
    solution, *_ = np.linalg.lstsq(design, fixed, rcond=None)
    matrix = np.vstack([solution.T, [0, 0, 1]])
    residual_um = xenium_mpp * float(np.sqrt(((design @ solution - fixed) ** 2).sum(axis=1).mean()))
    return _checked(path, Alignment(matrix, xenium_mpp, residual_um))


def _checked(path: Path | str, alignment: Alignment) -> Alignment:
    singular = np.linalg.svd(alignment.matrix[:2, :2], compute_uv=False)
    if singular[1] <= 1e-6 * max(singular[0], 1e-12):
        raise UserError(path, "matrix", "is singular: it maps the slide to a line", EXPORT_ALIGNMENT)
    if not MIN_MPP <= alignment.mpp_he <= MAX_MPP:
        problem = f"makes a pixel of the H&E {alignment.mpp_he:.3g} µm wide"
        raise UserError(path, "matrix", problem, "Use the matrix that maps pixels of this H&E to pixels of the Xenium image.")
    if singular[0] / singular[1] > MAX_STRETCH:
        logger.warning("%s: the two axes differ in scale by %.1f %%", path, 100 * (singular[0] / singular[1] - 1))
    return alignment


def read_registration(path: Path | str) -> tuple[Alignment, dict[str, Any]]:
    """Return the alignment in a `registration.json`, and all its entries."""
    record = read_json(path)
    return Alignment(np.array(record["matrix"]), record["xenium_mpp"], record["residual_um"]), record
