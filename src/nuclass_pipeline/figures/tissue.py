"""Maps of the tissue: the frame, the size of the points and the order of drawing."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from nuclass_pipeline.arrays import Integers
from nuclass_pipeline.figures.style import INK
from nuclass_pipeline.vocabulary import UNRESOLVED


def drawing_order(labels: "pd.Series[str]") -> Integers:
    """Return rows in the order of drawing: Unresolved first, then the others in random order."""
    # Shuffled, because the class that is drawn last would hide the others.
    shuffled = np.random.default_rng(0).permutation(len(labels))
    lies_below = (labels == UNRESOLVED).to_numpy()[shuffled]
    return np.concatenate([shuffled[lies_below], shuffled[~lies_below]])


def marker_area(width: float, height: float, cells: int, panel_in: float) -> float:
    """Return the area of a marker, pt², with which evenly spread cells just touch.

    Parameters
    ----------
    width, height
        Extent of the cells, in any unit.
    cells
        Number of cells.
    panel_in
        Width of the panel, inches.
    """
    pt_per_unit = 72 * panel_in / max(width, height, 1e-9)
    return float(np.clip(0.8 * width * height * pt_per_unit**2 / max(cells, 1), 0.08, 6))


def span(values: "pd.Series[float]") -> float:
    """Return the range of values, at least 1; 1 if there are none."""
    return float(max(values.max() - values.min(), 1)) if len(values) else 1.0


def tissue_frame(axes: Axes, cells: pd.DataFrame) -> None:
    """Set the axes to the extent of the cells, y downwards as in the image, and draw a scale bar below."""
    left, top, width, height = cells["x_um"].min(), cells["y_um"].min(), span(cells["x_um"]), span(cells["y_um"])
    axes.set_aspect("equal", anchor="N")
    gap = 0.02 * max(width, height)
    bar_y = top + height + 3 * gap
    axes.set(xlim=(left - gap, left + width + gap), ylim=(bar_y + 2 * gap, top - gap))
    length = round_length(width / 3)
    axes.plot([left, left + length], [bar_y, bar_y], color=INK, linewidth=1.5, solid_capstyle="butt")
    axes.annotate(f"{length:,g} µm", (left + length, bar_y), (3, 0), textcoords="offset points", va="center", fontsize=6)


def round_length(longest: float) -> float:
    """Return the largest number not above `longest` that is 1, 2 or 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(longest))
    return float(power * max(step for step in (1, 2, 5) if step * power <= longest))
