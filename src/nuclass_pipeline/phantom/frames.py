"""Pixel grids, and painting of cells and discs on them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.phantom.shapes import radius_at

Image = NDArray[np.float32]
XENIUM_MPP = 0.2125
"""Pixel size of Xenium morphology images, µm."""


@dataclass(frozen=True)
class Frame:
    """A pixel grid in the Xenium frame.

    Attributes
    ----------
    shape
        Rows and columns.
    to_um
        (2, 3) affine matrix; pixel (x, y) is at `to_um` @ (x, y, 1), µm.
    """

    shape: tuple[int, int]
    to_um: Floats

    @property
    def mpp(self) -> float:
        """Side of a pixel, µm."""
        return float(np.sqrt(abs(np.linalg.det(self.to_um[:, :2]))))

    def pixels(self, xy_um: Floats) -> Floats:
        """Return the pixel coordinates (x, y) of points: (N, 2)."""
        return np.asarray(np.linalg.solve(self.to_um[:, :2], (xy_um - self.to_um[:, 2]).T).T)

    def coarse(self, step: int) -> tuple[tuple[int, int], Floats]:
        """Return the shape of the grid of every `step`-th pixel, and the positions of its pixels in µm, row by row: (N, 2)."""
        # One more than needed, because enlarging interpolates between pixels and must cover the last of the full grid.
        rows, columns = (-(-side // step) + 1 for side in self.shape)
        x, y = np.meshgrid(np.arange(columns) * step, np.arange(rows) * step)
        return (rows, columns), np.asarray(np.stack([x.ravel(), y.ravel()], 1) @ self.to_um[:, :2].T + self.to_um[:, 2], dtype=np.float64)


@dataclass(frozen=True)
class Patch:
    """The pixels around one point.

    Attributes
    ----------
    window
        Rows and columns of the image.
    distance_um
        (rows, columns) distance of each pixel from the point, µm.
    angle_rad
        (rows, columns) direction of each pixel from the point, radians.
    """

    window: tuple[slice, slice]
    distance_um: Image
    angle_rad: Image


def xenium_frame(frame_um: tuple[float, float]) -> Frame:
    """Return the grid of the morphology image over a field of `frame_um` (width, height)."""
    shape = (int(np.ceil(frame_um[1] / XENIUM_MPP)), int(np.ceil(frame_um[0] / XENIUM_MPP)))
    return Frame(shape, XENIUM_MPP * np.eye(3)[:2])


def he_frame(frame_um: tuple[float, float], mpp: float, rotation_deg: float) -> tuple[Frame, Floats]:
    """Return the grid of an H&E that covers the whole field, and its alignment.

    Parameters
    ----------
    frame_um
        Width and height of the field, µm.
    mpp
        Pixel size of the H&E, µm.
    rotation_deg
        Rotation of the H&E against the Xenium image, degrees.

    Returns
    -------
    Frame, NDArray
        The grid, and the (3, 3) matrix from H&E pixels to morphology pixels.
    """
    angle = np.deg2rad(rotation_deg)
    linear = mpp * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = np.array([[0, 0], [frame_um[0], 0], [0, frame_um[1]], frame_um])
    pixels = np.linalg.solve(linear, corners.T).T
    low = pixels.min(0) - 20
    columns, rows = np.ceil(pixels.max(0) + 20 - low).astype(int)
    matrix = np.eye(3)
    matrix[:2] = np.column_stack([linear, linear @ low]) / XENIUM_MPP
    return Frame((int(rows), int(columns)), XENIUM_MPP * matrix[:2]), matrix


def patches(frame: Frame, xy_um: Floats, reach_um: Floats) -> Iterator[Patch]:
    """Yield the pixels within `reach_um` of each point, in the order of the points.

    Parameters
    ----------
    frame
        Pixel grid.
    xy_um
        (N, 2) points, µm.
    reach_um
        (N,) distances, µm; pixels beyond the edge of the grid are left out.
    """
    centers = frame.pixels(xy_um)
    for (x, y), reach in zip(centers, np.ceil(reach_um / frame.mpp).astype(int), strict=True):
        columns = np.arange(max(0, int(x) - reach), min(frame.shape[1], int(x) + reach + 2), dtype=np.float32)
        rows = np.arange(max(0, int(y) - reach), min(frame.shape[0], int(y) + reach + 2), dtype=np.float32)
        dx, dy = columns[None] - np.float32(x), rows[:, None] - np.float32(y)
        matrix = frame.to_um.astype(np.float32)
        across, down = matrix[0, 0] * dx + matrix[0, 1] * dy, matrix[1, 0] * dx + matrix[1, 1] * dy
        window = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
        yield Patch(window, np.hypot(across, down), np.arctan2(down, across))


def inside(patch: Patch, radii_um: Floats, soft_um: float) -> Image:
    """Return how much of each pixel an outline covers, 0 to 1.

    Parameters
    ----------
    patch
        Pixels around the centre of the outline.
    radii_um
        (ANGLES,) radius against angle, µm.
    soft_um
        Width of the blurred edge, µm.
    """
    row = np.zeros(1, dtype=np.int64)
    edge = radius_at(radii_um[None], row, patch.angle_rad.astype(np.float64))
    return np.asarray(np.clip((edge - patch.distance_um) / soft_um + 0.5, 0, 1), dtype=np.float32)
