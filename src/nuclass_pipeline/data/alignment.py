"""The alignment of an H&E with its cells, and the pixel size that follows from it.

10x's `*_he_imagealignment.csv` holds the matrix M. It maps H&E pixel (x, y, 1) to pixel of the Xenium morphology image.
Coordinates and pixel size follow from it::

    µm = xenium_mpp · (M @ [x, y, 1])
    pixel size of the H&E = xenium_mpp · sqrt(|det M[:2, :2]|)
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.data.alignment_file import EXPORT_ALIGNMENT, read_alignment_file
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_json
from nuclass_pipeline.units import HePixel, ImagePixel, Micron

# Far beyond all scanners, because the bounds must only catch a wrong unit or the alignment of another image.
MIN_MPP, MAX_MPP = 0.01, 10
"""Pixel sizes of microscopes, µm."""
# Above rounding, because keypoints on one line leave the map across it undetermined.
MIN_SPREAD = 1e-3
"""Smallest extent of keypoints across the line through them, as a share of that along it."""


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
    worst_um, worst_line
        Largest distance of a keypoint, µm, and the line of the keypoint that contradicts the others most; 0 without keypoints.
    aspect
        Height of a pixel of the H&E over its width. Not by the matrix alone, because tissue may be stretched a little.
    """

    matrix: Floats
    xenium_mpp: float
    residual_um: float = 0.0
    worst_um: float = 0.0
    worst_line: int = 0
    aspect: float = 1.0

    @property
    def mpp_he(self) -> float:
        """Pixel size of the H&E, µm: the root of the area of a pixel."""
        # Times the scale, because the matrix maps H&E pixels to Xenium pixels; the public reference divides (docs/method.md).
        return self.xenium_mpp * math.sqrt(abs(float(np.linalg.det(self.matrix[:2, :2]))))

    @property
    def inverse(self) -> "Alignment":
        """The alignment with the inverse matrix."""
        return Alignment(np.asarray(np.linalg.inv(self.matrix), np.float64), self.xenium_mpp)

    @property
    def axes_mpp(self) -> tuple[float, float]:
        """Width and height of a pixel of the H&E, µm."""
        width, height = self.xenium_mpp * np.linalg.norm(self.matrix[:2, :2], axis=0)
        return float(width), float(height)

    @property
    def sides_um(self) -> tuple[float, float]:
        """Width and height of a pixel of the H&E by its size and its aspect, µm."""
        return self.mpp_he / math.sqrt(self.aspect), self.mpp_he * math.sqrt(self.aspect)

    @property
    def squared(self) -> "Alignment":
        """The alignment of the H&E resampled to square pixels of the same area."""
        if self.aspect == 1:
            return self
        stored = np.diag([math.sqrt(self.aspect), 1 / math.sqrt(self.aspect), 1.0])
        return replace(self, matrix=np.asarray(self.matrix @ stored), aspect=1.0)

    @property
    def stretch(self) -> float:
        """Ratio of the largest scale of the map to the smallest, in whatever directions; 1 for square pixels without shear."""
        return float(np.linalg.cond(self.matrix[:2, :2]))

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
        return ImagePixel(self.to_he(xy_um) * (np.array(self.sides_um) / image_mpp))


def _apply(matrix: NDArray[Any], xy: NDArray[Any]) -> Floats:
    return np.asarray(xy @ matrix[:2, :2].T + matrix[:2, 2])


def read_alignment(path: Path | str | None, xenium_mpp: float) -> Alignment:
    """Read an alignment file of Xenium Explorer; without a file, the H&E is in Xenium pixels of `xenium_mpp`, µm.

    Raises
    ------
    UserError
        If the file is neither a matrix nor keypoints, or its map cannot be inverted or gives the H&E a pixel size that no microscope has.
    """
    if not path:
        return Alignment(np.eye(3), xenium_mpp)
    found = read_alignment_file(path)
    if found.keypoints is None:
        return _checked(path, Alignment(np.asarray(found.matrix), xenium_mpp))
    # By its own matrix, where an archive has one, because the H&E was exported with it.
    matrix = _fit_keypoints(path, found.keypoints) if found.matrix is None else found.matrix
    distances_um = xenium_mpp * _distances_px(matrix, found.keypoints)
    line = found.lines[_contradicting(matrix, found.keypoints)] if len(distances_um) else 0
    residual_um = float(np.sqrt((distances_um**2).mean())) if len(distances_um) else 0.0
    return _checked(path, Alignment(matrix, xenium_mpp, residual_um, float(distances_um.max(initial=0.0)), line))


def _fit_keypoints(path: Path | str, points: Floats) -> Floats:
    if len(points) < 3:
        raise UserError(path, "keypoints", f"{len(points)} pairs, at least 3 are needed", "Add keypoints in Xenium Explorer.")
    moving = points[:, 2:]
    along, across = np.linalg.svd(moving - moving.mean(axis=0), compute_uv=False)
    if across <= MIN_SPREAD * along:
        raise UserError(path, "keypoints", "lie on one line, so that their map is singular", "Spread the keypoints over the slide.")
    # By all pairs, because a map through the first three would take over their errors.
    solution, *_ = np.linalg.lstsq(_design(points), points[:, :2], rcond=None)
    return np.vstack([solution.T, [0, 0, 1]])


def _design(points: Floats) -> Floats:
    return np.column_stack([points[:, 2:], np.ones(len(points))])


def _distances_px(matrix: Floats, points: Floats) -> Floats:
    return np.asarray(np.linalg.norm(_design(points) @ matrix[:2].T - points[:, :2], axis=1))


def _contradicting(matrix: Floats, points: Floats) -> int:
    """Return the keypoint that lies farthest off the map of the others; off `matrix`, where three or fewer would be left."""
    distances = _distances_px(matrix, points)
    if len(points) > 4:
        design = _design(points)
        # Through the leverage, because a pair alone on its side of the slide draws the map to itself.
        leverage = np.einsum("ij,ji->i", design, np.linalg.pinv(design))
        distances = distances / np.maximum(1 - leverage, 1e-6)
    return int(distances.argmax())


def _checked(path: Path | str, alignment: Alignment) -> Alignment:
    singular = np.linalg.svd(alignment.matrix[:2, :2], compute_uv=False)
    if singular[1] <= 1e-6 * max(singular[0], 1e-12):
        raise UserError(path, "matrix", "is singular: it maps the slide to a line", EXPORT_ALIGNMENT)
    if not MIN_MPP <= alignment.mpp_he <= MAX_MPP:
        inverse_mpp = alignment.inverse.mpp_he
        hint = f"; it looks inverted, since its inverse makes it {inverse_mpp:.3g} µm" if MIN_MPP <= inverse_mpp <= MAX_MPP else ""
        problem = f"makes a pixel of the H&E {alignment.mpp_he:.3g} µm wide{hint}"
        raise UserError(path, "matrix", problem, "Use the matrix that maps pixels of this H&E to pixels of the Xenium image.")
    return alignment


def read_registration(path: Path | str) -> tuple[Alignment, dict[str, Any]]:
    """Return the alignment in a `registration.json`, and all its entries."""
    record = read_json(path)
    # Absent in results of version 0.1, which took all pixels as square.
    width_um, height_um = record.get("sides_um", (1.0, 1.0))
    return Alignment(np.array(record["matrix"]), record["xenium_mpp"], record["residual_um"], aspect=height_um / width_um), record
