"""Images stored in tables, and their scale bars."""

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from PIL import Image

from nuclass_pipeline.figures.style import INK


def decode(data: bytes) -> NDArray[np.uint8]:
    """Return the pixels of a PNG: (H, W, 3)."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def scale_bar(axes: Axes, length_um: float, field_um: float) -> None:
    """Draw a scale bar at the lower left of an image.

    Parameters
    ----------
    axes
        Axes of the image, which spans 0 to `field_um` in both directions.
    length_um
        Length of the bar, µm.
    field_um
        Side of the image, µm.
    """
    # With a white halo, because the bar must be visible on dark tissue too.
    left, bottom = 0.05 * field_um, 0.94 * field_um
    halo = [withStroke(linewidth=1.5, foreground="white")]
    axes.plot([left, left + length_um], [bottom, bottom], color=INK, linewidth=1.6, solid_capstyle="butt", path_effects=halo)
    axes.text(left, bottom - 0.03 * field_um, f"{length_um:g} µm", ha="left", va="bottom", fontsize=5, path_effects=halo)
