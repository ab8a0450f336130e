"""Pictures of an H&E: the square with most cells, circles on cells, outlines of nuclei, and panels side by side."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from nuclass_pipeline.arrays import Floats, Integers
from nuclass_pipeline.data.image.resample import resample
from nuclass_pipeline.data.image.slide import HeImage
from nuclass_pipeline.io import whole_file
from nuclass_pipeline.units import HePixel, round_length

PANEL_PX = 600
"""Side of a panel."""
DOT_COLOR = (0, 230, 120)
CAPTION_PX = 24
KEY_PX = 36
"""Height of the strip with the scale bar and the key."""
SMALL_PX, LARGE_PX = 1, 5
"""Radius of a circle on a cell, with and without outlines around it."""
MAX_OVERVIEW_DOTS = 5000


def densest_square(xy_px: HePixel, side_um: float, mpp: float, shape: tuple[int, int]) -> tuple[Integers, int]:
    """Return the square of a grid that holds most cells, moved into the image if it reaches over the edge.

    Parameters
    ----------
    xy_px
        Cells, (N, 2).
    side_um
        Side of the square; it is shortened to the image.
    mpp
        Pixel size of the image, µm.
    shape
        Height and width of the image, px.

    Returns
    -------
    corner
        Upper left corner (x, y), px; (0, 0) without a cell in the image.
    side_px
        Side of the square.
    """
    side_px = max(1, min(round(side_um / mpp), *shape))
    grid_px = -(-np.array(shape) // side_px) * side_px
    # As (y, x), because of squares with equally many cells the first one row by row is shown.
    yx_px = xy_px[:, ::-1]
    on_grid = yx_px[((yx_px >= 0) & (yx_px <= grid_px)).all(axis=1)]
    # A cell on the last line of the grid belongs to the last square.
    found = fullest_squares(np.minimum(on_grid, np.nextafter(grid_px, 0)), side_px, 1)
    top, left = found[0] if len(found) else (0, 0)
    return np.array([min(int(left), shape[1] - side_px), min(int(top), shape[0] - side_px)]), side_px


def fullest_squares(xy_px: Floats, side_px: int, count: int) -> Integers:
    """Return the corners (x, y) of up to `count` squares of a grid that hold most points, fullest first, (squares, 2).

    Of squares with equally many points, the one with the smaller x comes first, then that with the smaller y.
    """
    squares, counts = np.unique((xy_px // side_px).astype(int), axis=0, return_counts=True)
    return np.asarray(squares[np.argsort(-counts, kind="stable")[:count]] * side_px)


def mark(picture: Image.Image, xy_px: Floats, radius_px: int, margin_px: int = 0, **style: Any) -> None:
    """Draw circles on a picture.

    Parameters
    ----------
    xy_px
        Middles of the circles, (N, 2).
    radius_px
        Radius of a circle.
    margin_px
        How far a middle may lie outside the picture; the part of its circle that reaches into the picture is drawn.
    **style
        Further arguments of `PIL.ImageDraw.ImageDraw.ellipse`.
    """
    draw = ImageDraw.Draw(picture)
    for x, y in xy_px[((xy_px >= -margin_px) & (xy_px < np.add(picture.size, margin_px))).all(axis=1)]:
        draw.ellipse((x - radius_px, y - radius_px, x + radius_px, y + radius_px), outline=DOT_COLOR, **style)


def mark_outlines(picture: Image.Image, polygons: Iterable[NDArray[np.floating]]) -> None:
    """Draw every polygon, (vertices, 2) in pixels, that reaches into the picture."""
    draw = ImageDraw.Draw(picture)
    for polygon in polygons:
        if (polygon.max(axis=0) >= 0).all() and (polygon.min(axis=0) < picture.size).all():
            draw.line([(float(x), float(y)) for x, y in polygon], fill=DOT_COLOR, width=2)


def draw_detail(he: HeImage, xy_px: HePixel, outlines: Sequence[HePixel], corner: Integers, side_px: int, caption: str = "") -> Image.Image:
    """Draw a square of the H&E as a panel, with a circle on every cell.

    Parameters
    ----------
    xy_px, outlines
        Cells, (N, 2), and closed polygons of nuclei, each (vertices, 2).
    corner, side_px
        Upper left corner (x, y) and side of the square.
    caption
        Text at the top; none if empty.
    """
    pixels = he.read(0, int(corner[1]), int(corner[0]), side_px, side_px)
    detail = Image.fromarray(pixels).resize((PANEL_PX, PANEL_PX), Image.Resampling.BICUBIC)
    # Small where there are outlines, because a large circle would hide that of a nucleus.
    mark(detail, (xy_px - corner) * (PANEL_PX / side_px), SMALL_PX if outlines else LARGE_PX, width=2)
    mark_outlines(detail, [(outline - corner) * (PANEL_PX / side_px) for outline in outlines])
    if caption:
        draw = ImageDraw.Draw(detail)
        draw.rectangle((0, 0, PANEL_PX, 1.5 * CAPTION_PX), fill="white")
        draw.text((CAPTION_PX / 4, CAPTION_PX / 6), caption, fill="black", font_size=CAPTION_PX)
    return detail


def draw_overview(he: HeImage, xy_px: HePixel, corner: Integers, side_px: int) -> Image.Image:
    """Draw the whole H&E as a panel, with dots on up to 5,000 cells (N, 2), and the square of `side_px` from `corner` (x, y) in black."""
    scale = PANEL_PX / max(he.shape)
    whole = Image.fromarray(np.concatenate(list(resample(he, scale, PANEL_PX))))
    # Every n-th cell, because more dots would only hide the tissue.
    mark(whole, xy_px[:: -(-len(xy_px) // MAX_OVERVIEW_DOTS)] * scale, 1, fill=DOT_COLOR)
    mark_square(whole, corner * scale, side_px * scale)
    return whole


def encode_jpeg(picture: Image.Image, quality: int) -> bytes:
    """Return a picture as a JPEG file, for a column of a table."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def mark_square(picture: Image.Image, corner: NDArray[np.floating], side_px: float) -> None:
    """Draw a square in black from its upper left corner (x, y)."""
    box = np.concatenate([corner, corner + side_px])
    ImageDraw.Draw(picture).rectangle(tuple(box.tolist()), outline="black", width=2)


def with_key(picture: Image.Image, mpp: float, key: str) -> Image.Image:
    """Return a picture above a white strip with a scale bar and the meaning of what is drawn on the picture.

    Parameters
    ----------
    mpp
        Pixel size of the picture, µm.
    key
        Such as "green circle: cell".
    """
    width_px = max(picture.width, PANEL_PX)
    length_um = round_length(mpp * width_px / 4)
    bar_px, middle = round(length_um / mpp), picture.height + KEY_PX // 2
    text = f"{length_um:,g} µm      {key}"
    font = _font(KEY_PX // 2)
    # Smaller where the bar leaves little room, because the panel at the right would cover the end of the text.
    font = _font(min(KEY_PX / 2, KEY_PX / 2 * (width_px - bar_px - KEY_PX) / font.getlength(text)))
    strip = Image.new("RGB", (max(picture.width, round(bar_px + KEY_PX + font.getlength(text))), picture.height + KEY_PX), "white")
    strip.paste(picture, (0, 0))
    draw = ImageDraw.Draw(strip)
    left = KEY_PX // 4
    draw.rectangle((left, middle - 2, left + bar_px - 1, middle + 2), fill="black")
    draw.text((left + bar_px + KEY_PX // 4, middle), text, fill="black", font=font, anchor="lm")
    return strip


def _font(size_px: float) -> ImageFont.FreeTypeFont:
    # The font of the figures, because that of Pillow has no µ.
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size_px)


def write_pair(left: Image.Image, right: Image.Image, path: Path) -> None:
    """Write two panels of up to 600 px with their keys side by side as PNG, 1200 × 636 px."""
    picture = Image.new("RGB", (2 * PANEL_PX, PANEL_PX + KEY_PX), "white")
    picture.paste(left, (0, 0))
    picture.paste(right, (PANEL_PX, 0))
    with whole_file(path) as partial:
        picture.save(partial, "PNG")
