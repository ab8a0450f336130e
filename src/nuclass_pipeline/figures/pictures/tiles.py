"""Images stored in tables, and what is drawn on them: scale bars, the cell in question, squares."""

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from PIL import Image

from nuclass_pipeline.figures.style import INK, SMALL_PT
from nuclass_pipeline.units import round_length

# With a white halo, because marks must be visible on dark tissue too.
HALO = [withStroke(linewidth=2.2, foreground="white")]
CELL_UM = 7.0
"""Radius of the ring around a cell: that of a large cell, µm."""


def open_picture(data: bytes, most_px: int | None = None) -> Image.Image:
    """Open a PNG or JPEG; if `most_px` is given, it is reduced to that length of its longer side."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        if most_px and max(image.size) > most_px:
            image.thumbnail((most_px, most_px), Image.Resampling.BOX)
        return image


def decode(data: bytes, most_px: int | None = None) -> NDArray[np.uint8]:
    """Return the pixels of a PNG or JPEG: (H, W, 3)."""
    return np.asarray(open_picture(data, most_px).convert("RGB"))


def scale_bar(axes: Axes, field_um: float) -> None:
    """Draw a scale bar at the lower left of an image; it is 1, 2 or 5 times a power of ten, and at most a third of the side.

    Parameters
    ----------
    axes
        Axes of the image, which spans 0 to `field_um` in both directions.
    field_um
        Side of the image, µm.
    """
    length_um = round_length(field_um / 3)
    left, bottom = 0.05 * field_um, 0.94 * field_um
    (bar,) = axes.plot([left, left + length_um], [bottom, bottom], color=INK, linewidth=1.6, solid_capstyle="butt", path_effects=HALO)
    bar.set_gid("scale bar")
    axes.text(left, bottom - 0.03 * field_um, f"{length_um:g} µm", ha="left", va="bottom", fontsize=SMALL_PT, path_effects=HALO)


def mark_cell(axes: Axes, field_um: float) -> None:
    """Draw a ring around the cell in the middle of an image of `field_um`, µm."""
    # At least a 40th of the field, because a smaller ring would be a dot.
    radius_um = max(CELL_UM, field_um / 40)
    ring = Circle((field_um / 2, field_um / 2), radius_um, fill=False, edgecolor=INK, linewidth=0.8, path_effects=HALO)
    ring.set_gid("cell")
    axes.add_patch(ring)


def mark_crop(axes: Axes, field_um: float, crop_um: float) -> None:
    """Draw the square of the crop, `crop_um` wide, in the middle of an image of `field_um`, µm."""
    corner = (field_um - crop_um) / 2
    square = Rectangle((corner, corner), crop_um, crop_um, fill=False, edgecolor=INK, linewidth=0.8, path_effects=HALO)
    square.set_gid("crop")
    axes.add_patch(square)
