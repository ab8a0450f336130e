"""Outlines of nuclei and cells, given as radius against angle."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from nuclass_pipeline.arrays import Floats, Integers
from nuclass_pipeline.phantom.classes import LOOKS
from nuclass_pipeline.phantom.tissue import Cells

ANGLES = 72
"""Directions in which a radius is stored, one every 5 degrees."""
EXPANSION_UM = 5.0
"""Nucleus expansion of the instrument."""
VERTICES = 24
"""Distinct vertices of a written polygon, which repeats the first at its end."""
_THETA = 2 * np.pi * np.arange(ANGLES) / ANGLES


@dataclass(frozen=True)
class Shapes:
    """Outlines of nuclei and cells.

    Attributes
    ----------
    nucleus_um, cell_um
        (cells, ANGLES) radii around the centre of the nucleus, µm.
    """

    nucleus_um: Floats
    cell_um: Floats


def radius_at(radii: NDArray[np.floating], row: NDArray[np.integer], theta: Floats) -> Floats:
    """Compute the radius of outlines at given angles by linear interpolation.

    Parameters
    ----------
    radii
        (outlines, ANGLES) radii, µm.
    row
        Outline of each angle; broadcast against `theta`.
    theta
        Angles, radians.

    Returns
    -------
    NDArray
        Radii, µm, in the shape of `theta`.
    """
    position = np.mod(theta, 2 * np.pi) * (ANGLES / (2 * np.pi))
    low = position.astype(np.int64) % ANGLES
    part = position - np.floor(position)
    return np.asarray(radii[row, low] * (1 - part) + radii[row, (low + 1) % ANGLES] * part)


def areas_um2(radii: Floats) -> Floats:
    """Return the area inside each outline, µm²: (outlines,)."""
    return np.asarray(0.5 * np.sin(2 * np.pi / ANGLES) * (radii * np.roll(radii, -1, 1)).sum(1))


def centroids_um(xy_um: Floats, radii: Floats) -> Floats:
    """Return the centroid of the area inside each outline, µm: (outlines, 2)."""
    points = radii[:, :, None] * np.stack([np.cos(_THETA), np.sin(_THETA)], 1)
    weight = radii * np.roll(radii, -1, 1)
    return np.asarray(xy_um + ((points + np.roll(points, -1, 1)) / 3 * weight[:, :, None]).sum(1) / weight.sum(1, keepdims=True))


def polygons_um(xy_um: Floats, radii: Floats) -> Floats:
    """Return closed polygons, µm: (cells, VERTICES + 1, 2)."""
    columns = np.append(np.arange(0, ANGLES, ANGLES // VERTICES), 0)
    unit = np.stack([np.cos(_THETA), np.sin(_THETA)], 1)[columns]
    return np.asarray(xy_um[:, None] + radii[:, columns, None] * unit)


def draw_shapes(rng: np.random.Generator, cells: Cells) -> Shapes:
    """Draw nuclei that do not touch, and expand each by 5 µm, at most half-way to its neighbours."""
    nuclei = _nuclei(rng, cells)
    pairs = cKDTree(cells.xy_um).query_pairs(34.0, output_type="ndarray")
    first, second = np.concatenate([pairs, pairs[:, ::-1]]).T
    order = np.argsort(first, kind="stable")
    first, second = first[order], second[order]
    offset = cells.xy_um[second] - cells.xy_um[first]
    distance, angle = np.hypot(*offset.T), np.arctan2(offset[:, 1], offset[:, 0])
    # Twice, because one round shrinks a nucleus to no less than 0.6 of its size.
    for _ in range(2):
        reach = radius_at(nuclei, first, angle) + radius_at(nuclei, second, angle + np.pi)
        shrink = np.ones(len(cells))
        np.minimum.at(shrink, first, np.clip((distance - 0.3) / reach, 0.6, 1))
        nuclei *= shrink[:, None]
    return Shapes(nuclei, _cells(nuclei, first, second, distance, angle))


def _nuclei(rng: np.random.Generator, cells: Cells) -> Floats:
    looks = [LOOKS[label] for label in cells.label]
    size = np.exp(rng.normal(0, 1, len(cells)) * [look.spread for look in looks])
    stretch = np.exp(rng.normal(0, 0.5, len(cells)) * [look.spread for look in looks])
    major = np.array([look.major_um * look.size for look in looks]) * size * stretch
    minor = np.array([look.minor_um * look.size for look in looks]) * size / stretch
    theta = _THETA - cells.direction_rad[:, None]
    radii = (major * minor)[:, None] / np.hypot(minor[:, None] * np.cos(theta), major[:, None] * np.sin(theta))
    rough = np.array([look.roughness for look in looks])
    for order in (2, 3, 4, 5):
        amplitude = rng.normal(0, 1, len(cells)) * rough * 2 / order
        radii *= 1 + amplitude[:, None] * np.cos(order * _THETA + rng.uniform(0, 2 * np.pi, (len(cells), 1)))
    bean = np.array([look.texture == "vesicular" for look in looks])
    dent = np.exp(-(((np.mod(theta, 2 * np.pi) - np.pi / 2) / 0.55) ** 2)) * np.where(bean, 0.45, 0)[:, None]
    return np.asarray(radii * (1 - dent))


def _cells(nuclei: Floats, first: Integers, second: Integers, distance: Floats, angle: Floats) -> Floats:
    """Expand nuclei; the line midway between the edges of two nuclei limits both. `first` must be sorted."""
    middle = (distance + radius_at(nuclei, first, angle) - radius_at(nuclei, second, angle + np.pi)) / 2
    cosine = np.cos(_THETA[None] - angle[:, None])
    # Rays nearly parallel to the line are free, because they meet it far away or never.
    limit = np.where(cosine > 0.05, middle[:, None] / np.maximum(cosine, 0.05), np.inf)
    cells = nuclei + EXPANSION_UM
    rows, starts = np.unique(first, return_index=True)
    cells[rows] = np.minimum(cells[rows], np.minimum.reduceat(limit, starts, axis=0))
    return np.asarray(np.maximum(cells, nuclei * 1.03))
