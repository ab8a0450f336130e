"""Nuclei of an H&E, found tile by tile, each once, as outline and centroid.

A tile is read with half the overlap on every side of its core. A nucleus belongs to the tile whose core holds its centroid.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, find_objects, label
from scipy.spatial import KDTree
from skimage.measure import find_contours, points_in_poly

from nuclass_pipeline.arrays import Booleans
from nuclass_pipeline.data.image.slide import RGB
from nuclass_pipeline.runtime import track

Segmenter = Callable[[RGB], NDArray[np.int32]]
"""Tile (height, width, 3) → labels (height, width); 0 is background."""
ReadTile = Callable[[slice, slice], RGB]
"""Rows, columns → those pixels, (height, width, 3)."""
FindDebris = Callable[[RGB, NDArray[np.int32], float], dict[int, str]]
"""Tile, labels, pixel size in µm → labels that are not nuclei, and why."""

# In green, because haematoxylin absorbs it most. Tiles without such pixels are skipped, because much of a slide may be glass.
PALE = 200
"""Every nucleus is darker than this in green; a tile without such a pixel holds no nucleus."""
SEAM_PX = 3
"""A tile keeps nuclei up to this far beyond its core, because the centroids of one nucleus may differ so much between two tiles."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of the image, and what is read around it.

    Attributes
    ----------
    core
        Top, left, bottom and right, px; the cores of all tiles cover the image once.
    read
        The same of the pixels that are read: the core and half the overlap around it.
    """

    core: tuple[int, int, int, int]
    read: tuple[int, int, int, int]

    def holds(self, x_px: float, y_px: float, margin_px: float = 0) -> bool:
        """Return whether a point lies in the core widened by `margin_px`."""
        top, left, bottom, right = self.core
        return top - margin_px <= y_px < bottom + margin_px and left - margin_px <= x_px < right + margin_px


@dataclass(frozen=True, slots=True)
class Nucleus:
    """One outline of a nucleus, as one tile found it.

    Attributes
    ----------
    x_px, y_px
        Centroid, px of the image.
    area_px
        Area, px².
    polygon
        Closed outline, (vertices, 2) as x, y in px of the image.
    tile
        Tile that found it.
    reason
        Why it is not a nucleus; empty if it is one.
    """

    x_px: float
    y_px: float
    area_px: int
    polygon: NDArray[np.float32]
    tile: Tile
    reason: str


def segment_image(
    read_tile: ReadTile,
    shape: tuple[int, int],
    segmenter: Segmenter,
    mpp: float,
    tile_px: int = 2048,
    overlap_px: int = 256,
    find_debris: FindDebris | None = None,
) -> pd.DataFrame:
    """Find the nuclei of an image with no more than one tile in memory.

    Parameters
    ----------
    read_tile
        Returns the pixels of a part of the image, for example `lambda rows, columns: level[rows, columns]`.
    shape
        Height and width of the image, px.
    segmenter
        Labels the nuclei of a tile.
    mpp
        Pixel size of the image, µm.
    tile_px, overlap_px
        Side of a tile, and how much of it the next tile shares. Half the overlap must be wider than the reach of the segmenter and than
        a nucleus.
    find_debris
        Names what is not a nucleus; without it, all objects are.

    Returns
    -------
    DataFrame
        `cell_id`, in row-major order of tiles and labels. `x_px`, `y_px`, the centroid; pixel `i` is from `i` to `i + 1`. `area_um2`.
        `polygon`, (vertices, 2) float32, x and y in px; the first vertex is repeated at the end. `reason`, empty for a nucleus.

    Raises
    ------
    ValueError
        If `overlap_px` is negative, or not smaller than `tile_px`.
    """
    if not 0 <= overlap_px < tile_px:
        raise ValueError(f"tiles of {tile_px} px cannot overlap by {overlap_px} px")
    tiles = list(tile_grid(shape, tile_px, overlap_px))
    found: list[Nucleus] = []
    for tile in track(tiles, len(tiles), "tiles"):
        top, left, bottom, right = tile.read
        pixels = read_tile(slice(top, bottom), slice(left, right))
        if pixels[..., 1].min() < PALE:
            labels = segmenter(pixels)
            found += _nuclei_of(labels, tile, find_debris(pixels, labels, mpp) if find_debris else {})
    nuclei = _resolve_seams(found)
    return pd.DataFrame(
        {
            "cell_id": [f"nucleus-{rank}" for rank in range(len(nuclei))],
            "x_px": np.array([nucleus.x_px for nucleus in nuclei], dtype=np.float64),
            "y_px": np.array([nucleus.y_px for nucleus in nuclei], dtype=np.float64),
            "area_um2": np.array([nucleus.area_px for nucleus in nuclei], dtype=np.float64) * mpp**2,
            "polygon": pd.Series([nucleus.polygon for nucleus in nuclei], dtype=object),
            "reason": pd.Series([nucleus.reason for nucleus in nuclei], dtype=object),
        }
    )


def tile_grid(shape: tuple[int, int], tile_px: int, overlap_px: int) -> Iterator[Tile]:
    """Yield tiles in row-major order; their cores cover an image of `shape` (height, width) once."""
    step, half = tile_px - overlap_px, overlap_px // 2
    height, width = shape
    for top in range(0, height, step):
        for left in range(0, width, step):
            core = (top, left, min(top + step, height), min(left + step, width))
            yield Tile(core, (max(top - half, 0), max(left - half, 0), min(core[2] + half, height), min(core[3] + half, width)))


def outline(mask: Booleans) -> NDArray[np.float32]:
    """Return the outline of a mask of one piece without holes, (height, width).

    It follows the edges of the pixels, is closed, and has (vertices, 2) as x, y in px.
    """
    contours = find_contours(np.pad(mask, 1).astype(np.float32), 0.5, fully_connected="high")  # type: ignore[no-untyped-call]
    # Less half a pixel, because vertices are indices into the padded mask, and pixel 0 has its centre at 0.5.
    return np.asarray(contours[0][:, ::-1] - 0.5, dtype=np.float32)


def _nuclei_of(labels: NDArray[np.int32], tile: Tile, reasons: dict[int, str]) -> list[Nucleus]:
    nuclei = []
    for number, box in enumerate(find_objects(labels), start=1):
        if box is None:
            continue
        mask = _solid(labels[box] == number)
        corner = np.array([tile.read[1] + box[1].start, tile.read[0] + box[0].start])
        x_px, y_px = np.argwhere(mask)[:, ::-1].mean(axis=0) + 0.5 + corner
        if tile.holds(x_px, y_px, SEAM_PX):
            polygon = outline(mask) + corner.astype(np.float32)
            nuclei.append(Nucleus(float(x_px), float(y_px), int(mask.sum()), polygon, tile, reasons.get(number, "")))
    return nuclei


def _solid(mask: Booleans) -> Booleans:
    """Return the largest piece of a mask, its holes filled."""
    # Not by regionprops, because its `image_filled` leaves a hole open that touches the outside at a corner, which the outline encloses.
    pieces, _ = label(binary_fill_holes(mask), np.ones((3, 3)))
    return np.asarray(pieces == np.bincount(pieces[mask]).argmax())


def _resolve_seams(found: list[Nucleus]) -> list[Nucleus]:
    """Keep one of the outlines that two tiles found of the same nucleus: that of the tile whose core holds it, then the larger one."""
    rivals: dict[int, set[int]] = {}
    for one, other in _rival_pairs(found):
        rivals.setdefault(one, set()).add(other)
        rivals.setdefault(other, set()).add(one)
    dropped: set[int] = set()
    ranked = sorted(rivals, key=lambda i: (not found[i].tile.holds(found[i].x_px, found[i].y_px), -found[i].area_px, i))
    for candidate in ranked:
        if candidate not in dropped:
            dropped |= rivals[candidate]
    return [nucleus for number, nucleus in enumerate(found) if number not in dropped]


def _rival_pairs(found: list[Nucleus]) -> Iterator[tuple[int, int]]:
    """Yield pairs from different tiles where the centroid of the second lies in the outline of the first."""
    if not found:
        return
    centroids = np.array([(nucleus.x_px, nucleus.y_px) for nucleus in found])
    tree = KDTree(centroids)
    for number, nucleus in enumerate(found):
        low, high = nucleus.polygon.min(axis=0), nucleus.polygon.max(axis=0)
        # Well inside its core, because no other tile keeps a nucleus there.
        if all(nucleus.tile.holds(x_px, y_px, -SEAM_PX) for x_px, y_px in (low, high)):
            continue
        near = [i for i in tree.query_ball_point((low + high) / 2, float(np.hypot(*(high - low))) / 2) if found[i].tile != nucleus.tile]
        inside = points_in_poly(centroids[near].reshape(-1, 2), nucleus.polygon)  # type: ignore[no-untyped-call]
        yield from ((number, other) for other, hit in zip(near, inside, strict=True) if hit)
