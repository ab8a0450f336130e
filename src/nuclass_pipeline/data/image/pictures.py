"""Pictures of an H&E with the cells on it."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from nuclass_pipeline.data.alignment import Alignment
from nuclass_pipeline.data.image.slide import HeImage
from nuclass_pipeline.data.xenium.boundaries import read_outlines
from nuclass_pipeline.io import whole_file
from nuclass_pipeline.units import HePixel, Micron

PANEL_PX = 600
DOT_COLOR = (0, 230, 120)
CAPTION_PX = 24
SMALL_PX, LARGE_PX = 1, 5
"""Radius of a circle on a cell, with and without outlines around it."""


def draw_detail(
    he: HeImage, xy_px: HePixel, outlines: Sequence[HePixel], corner: NDArray[np.int64], side_px: int, caption: str = ""
) -> Image.Image:
    """Draw the square of `side_px` from `corner` (x, y) in a panel, with a circle on every cell, outlines and a caption."""
    pixels = he.read(0, int(corner[1]), int(corner[0]), side_px, side_px)
    detail = Image.fromarray(pixels).resize((PANEL_PX, PANEL_PX), Image.Resampling.BICUBIC)
    mark(detail, (xy_px - corner) * (PANEL_PX / side_px), SMALL_PX if outlines else LARGE_PX, width=2)
    mark_outlines(detail, [(outline - corner) * (PANEL_PX / side_px) for outline in outlines])
    if caption:
        draw = ImageDraw.Draw(detail)
        draw.rectangle((0, 0, PANEL_PX, 1.5 * CAPTION_PX), fill="white")
        draw.text((CAPTION_PX / 4, CAPTION_PX / 6), caption, fill="black", font_size=CAPTION_PX)
    return detail


def nuclei_of_bundle(bundle: Path, mapping: Alignment, corner: NDArray[np.int64], side_px: int) -> list[HePixel]:
    """Place on the H&E the bundle's outlines of nuclei that lie in a square of it; none where the bundle has no outlines."""
    corners_um = mapping.to_um(HePixel(corner + side_px * np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])))
    low_um, high_um = corners_um.min(axis=0), corners_um.max(axis=0)
    found = read_outlines(bundle, "nucleus", (low_um[0], low_um[1]), (high_um[0], high_um[1])) or []
    return [mapping.to_he(Micron(polygon)) for _, polygon in found]


def write_pair(left: Image.Image, right: Image.Image, path: Path) -> None:
    """Write two panels side by side as PNG, 1200 × 600 px."""
    picture = Image.new("RGB", (2 * PANEL_PX, PANEL_PX), "white")
    picture.paste(left, (0, 0))
    picture.paste(right, (PANEL_PX, 0))
    with whole_file(path) as partial:
        picture.save(partial, "PNG")


def densest_square(xy_px: HePixel, side_um: float, mpp_he: float, shape: tuple[int, int]) -> tuple[NDArray[np.int64], int]:
    """Return the upper left corner (x, y) and the side, px, of the square with most cells, within an image of `shape`."""
    side_px = max(1, min(round(side_um / mpp_he), *shape))
    rows, columns = (-(-length // side_px) for length in shape)
    extent = ((0, rows * side_px), (0, columns * side_px))
    counts, *_ = np.histogram2d(xy_px[:, 1], xy_px[:, 0], bins=(rows, columns), range=extent)
    row, column = np.unravel_index(int(np.argmax(counts)), counts.shape)
    return np.array([min(int(column) * side_px, shape[1] - side_px), min(int(row) * side_px, shape[0] - side_px)]), side_px


def mark(picture: Image.Image, xy_px: NDArray[np.float64], radius_px: int, **style: Any) -> None:
    """Draw a circle on every point, (N, 2) in pixels, that lies on the picture."""
    draw = ImageDraw.Draw(picture)
    for x, y in xy_px[((xy_px >= 0) & (xy_px < picture.size)).all(axis=1)]:
        draw.ellipse((x - radius_px, y - radius_px, x + radius_px, y + radius_px), outline=DOT_COLOR, **style)


def mark_outlines(picture: Image.Image, polygons: Iterable[NDArray[np.floating]]) -> None:
    """Draw every polygon, (vertices, 2) in pixels, that reaches into the picture."""
    draw = ImageDraw.Draw(picture)
    for polygon in polygons:
        if (polygon.max(axis=0) >= 0).all() and (polygon.min(axis=0) < picture.size).all():
            draw.line([(float(x), float(y)) for x, y in polygon], fill=DOT_COLOR, width=2)
