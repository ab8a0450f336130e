"""Where the H&E lies on the cells: the alignment, its pixel size, and a check against the nuclei.

10x's `*_he_imagealignment.csv` maps H&E pixel (x, y, 1) to pixel of the Xenium morphology image, so
µm = xenium_mpp · (M @ [x, y, 1]) and the pixel size of the H&E is xenium_mpp · sqrt(|det M[:2, :2]|).
"""

import csv
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_json, require
from nuclass_pipeline.units import HePixel, ImagePixel, Micron

logger = logging.getLogger(__name__)

KEYPOINTS = ("fixedX", "fixedY", "alignmentX", "alignmentY")
MIN_MPP, MAX_MPP = 0.01, 10
"""Pixel sizes of microscopes, µm; beyond them a unit or a map is mistaken."""
MAX_OFFSET_PX = 1e9
MIN_SPREAD = 1e-3
"""Extent of keypoints across the line through them, as a share of that along it."""


@dataclass(frozen=True)
class Alignment:
    """An affine map from H&E pixels to Xenium pixels.

    Attributes
    ----------
    matrix
        (3, 3), H&E pixel (x, y, 1) → Xenium pixel (x, y, 1).
    xenium_mpp
        Pixel size of the Xenium morphology image, µm.
    residual_um
        Root mean square distance of keypoints after the fit, µm; 0 for a matrix file.
    """

    matrix: NDArray[np.float64]
    xenium_mpp: float
    residual_um: float = 0.0

    @property
    def mpp_he(self) -> float:
        """Pixel size of the H&E, µm."""
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
        """Place points of the Xenium frame on the H&E."""
        return HePixel(_apply(np.linalg.inv(self.matrix), np.asarray(xy_um) / self.xenium_mpp))

    def to_um(self, xy_px: HePixel) -> Micron:
        """Place points of the H&E in the Xenium frame."""
        return Micron(_apply(self.matrix, xy_px) * self.xenium_mpp)

    def to_image(self, xy_um: Micron, image_mpp: float) -> ImagePixel:
        """Place points of the Xenium frame on the H&E resampled to `image_mpp`, µm."""
        return ImagePixel(self.to_he(xy_um) * (self.mpp_he / image_mpp))


def _apply(matrix: NDArray[Any], xy: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(xy @ matrix[:2, :2].T + matrix[:2, 2])


def read_alignment(path: Path | str | None, xenium_mpp: float) -> Alignment:
    """Read a matrix or keypoint file; without a file the H&E is already in Xenium pixels.

    Raises
    ------
    UserError
        If the file is neither, or its map cannot be inverted or makes pixels of a size that no microscope has.
    """
    if not path:
        return Alignment(np.eye(3), xenium_mpp)
    try:
        with require(path).open(newline="") as stream:
            rows = [[cell.strip() for cell in row] for row in csv.reader(stream) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(path, "file", f"not a readable CSV ({error})", "Export the alignment again from Xenium Explorer.") from error
    if rows and tuple(rows[0]) == KEYPOINTS:
        return _fit_keypoints(path, _numbers(path, rows[1:], 4), xenium_mpp)
    matrix = _numbers(path, rows, 3)
    if matrix.shape != (3, 3) or not np.allclose(matrix[2], (0, 0, 1)):
        raise UserError(path, "matrix", f"{len(rows)} rows, last {rows[-1] if rows else []}", "A 3 × 3 matrix ends with 0,0,1.")
    return _checked(path, Alignment(matrix, xenium_mpp))


def _numbers(path: Path | str, rows: list[list[str]], columns: int) -> NDArray[np.float64]:
    for number, row in enumerate(rows, start=1):
        if len(row) != columns:
            raise UserError(
                path, f"row {number}", f"has {len(row)} values, not {columns}", "Export the alignment again from Xenium Explorer."
            )
    try:
        values = np.array(rows, dtype=np.float64)
    except ValueError as error:
        raise UserError(path, "matrix", str(error), "All values must be numbers.") from error
    if not (np.abs(values) < MAX_OFFSET_PX).all():
        raise UserError(path, "matrix", "holds a value that is not finite or huge", "Export the alignment again from Xenium Explorer.")
    return values


def _fit_keypoints(path: Path | str, points: NDArray[np.float64], xenium_mpp: float) -> Alignment:
    if len(points) < 3:
        raise UserError(path, "keypoints", f"{len(points)} pairs", "An affine map needs three or more.")
    fixed, moving = points[:, :2], points[:, 2:]
    along, across = np.linalg.svd(moving - moving.mean(axis=0), compute_uv=False)
    if across <= MIN_SPREAD * along:
        raise UserError(path, "keypoints", "lie on one line, so that their map is singular", "Spread the keypoints over the slide.")
    design = np.column_stack([moving, np.ones(len(moving))])
    solution, *_ = np.linalg.lstsq(design, fixed, rcond=None)
    matrix = np.vstack([solution.T, [0, 0, 1]])
    residual_um = xenium_mpp * float(np.sqrt(((design @ solution - fixed) ** 2).sum(axis=1).mean()))
    return _checked(path, Alignment(matrix, xenium_mpp, residual_um))


def _checked(path: Path | str, alignment: Alignment) -> Alignment:
    singular = np.linalg.svd(alignment.matrix[:2, :2], compute_uv=False)
    if singular[1] <= 1e-6 * max(singular[0], 1e-12):
        raise UserError(path, "matrix", "is singular: it maps the slide to a line", "Export the alignment again from Xenium Explorer.")
    if not MIN_MPP <= alignment.mpp_he <= MAX_MPP:
        problem = f"makes a pixel of the H&E {alignment.mpp_he:.3g} µm wide"
        raise UserError(path, "matrix", problem, "It must map pixels of the H&E to pixels of the Xenium image.")
    if singular[0] / singular[1] > 1.05:
        logger.warning("%s: the two axes differ in scale by %.1f %%", path, 100 * (singular[0] / singular[1] - 1))
    return alignment


def read_registration(path: Path | str) -> tuple[Alignment, dict[str, Any]]:
    """Return the alignment in a `registration.json`, and the whole record."""
    record = read_json(path)
    return Alignment(np.array(record["matrix"]), record["xenium_mpp"], record["residual_um"]), record
