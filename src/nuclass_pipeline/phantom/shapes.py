"""Outlines of nuclei and cells as radius against angle."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.phantom.classes import LOOKS
from nuclass_pipeline.phantom.tissue import Cells

ANGLES = 72
EXPANSION_UM = 5.0
VERTICES = 24
_THETA = 2 * np.pi * np.arange(ANGLES) / ANGLES


@dataclass(frozen=True)
class Shapes:
    """Radii (µm) of nucleus and cell round the nucleus centre, a row per cell, a column per 5 degrees."""

    nucleus_um: Floats
    cell_um: Floats


def radius_at(radii: NDArray[np.floating], row: NDArray[np.integer], theta: Floats) -> Floats:
    """Interpolate the radius of outline `row` at angle `theta` (radians), µm."""
    position = np.mod(theta, 2 * np.pi) * (ANGLES / (2 * np.pi))
    low = position.astype(np.int64) % ANGLES
    part = position - np.floor(position)
    return np.asarray(radii[row, low] * (1 - part) + radii[row, (low + 1) % ANGLES] * part)


def areas_um2(radii: Floats) -> Floats:
    """Give the area within each outline, µm²."""
    return np.asarray(0.5 * np.sin(2 * np.pi / ANGLES) * (radii * np.roll(radii, -1, 1)).sum(1))


def centroids_um(xy_um: Floats, radii: Floats) -> Floats:
    """Give the centroid of the area within each outline, µm."""
    points = radii[:, :, None] * np.stack([np.cos(_THETA), np.sin(_THETA)], 1)
    weight = radii * np.roll(radii, -1, 1)
    return np.asarray(xy_um + ((points + np.roll(points, -1, 1)) / 3 * weight[:, :, None]).sum(1) / weight.sum(1, keepdims=True))


def polygons_um(xy_um: Floats, radii: Floats) -> Floats:
    """Give closed polygons of 25 vertices, (cells, 25, 2), µm."""
    columns = np.append(np.arange(0, ANGLES, ANGLES // VERTICES), 0)
    unit = np.stack([np.cos(_THETA), np.sin(_THETA)], 1)[columns]
    return np.asarray(xy_um[:, None] + radii[:, columns, None] * unit)


def draw_shapes(rng: np.random.Generator, cells: Cells) -> Shapes:
    """Draw nuclei that do not touch, and cells as their expansion by 5 µm up to half-way to the neighbours."""
    nuclei = _nuclei(rng, cells)
    pairs = cKDTree(cells.xy_um).query_pairs(34.0, output_type="ndarray")
    first, second = np.concatenate([pairs, pairs[:, ::-1]]).T
    order = np.argsort(first, kind="stable")
    first, second = first[order], second[order]
    offset = cells.xy_um[second] - cells.xy_um[first]
    distance, angle = np.hypot(*offset.T), np.arctan2(offset[:, 1], offset[:, 0])
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


def _cells(nuclei: Floats, first: NDArray[np.int64], second: NDArray[np.int64], distance: Floats, angle: Floats) -> Floats:
    """Limit each ray by the line midway between two nuclei's edges; rows of `first` come sorted."""
    middle = (distance + radius_at(nuclei, first, angle) - radius_at(nuclei, second, angle + np.pi)) / 2
    cosine = np.cos(_THETA[None] - angle[:, None])
    limit = np.where(cosine > 0.05, middle[:, None] / np.maximum(cosine, 0.05), np.inf)
    cells = nuclei + EXPANSION_UM
    rows, starts = np.unique(first, return_index=True)
    cells[rows] = np.minimum(cells[rows], np.minimum.reduceat(limit, starts, axis=0))
    return np.asarray(np.maximum(cells, nuclei * 1.03))
