"""Cells where they lie: the frame of a map, the size of its points and their order."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from nuclass_pipeline.figures.style import INK
from nuclass_pipeline.vocabulary import UNRESOLVED


def drawing_order(labels: "pd.Series[str]") -> NDArray[np.int64]:
    """Return rows in the order of drawing: Unresolved first, so below; then the others shuffled, so that no class hides another."""
    shuffled = np.random.default_rng(0).permutation(len(labels))
    lies_below = (labels == UNRESOLVED).to_numpy()[shuffled]
    return np.concatenate([shuffled[lies_below], shuffled[~lies_below]])


def marker_area(width: float, height: float, cells: int, panel_in: float) -> float:
    """Return the area of a marker, pt², that lets cells of even density just touch in a panel that shows this width and height."""
    pt_per_unit = 72 * panel_in / max(width, height, 1e-9)
    return float(np.clip(0.8 * width * height * pt_per_unit**2 / max(cells, 1), 0.08, 6))


def span(values: "pd.Series[float]") -> float:
    """Return the extent of values, at least 1."""
    return float(max(values.max() - values.min(), 1)) if len(values) else 1.0


def tissue_frame(axes: Axes, cells: pd.DataFrame) -> None:
    """Show the slide as its image lies, y downwards, with a bar below it."""
    left, top, width, height = cells["x_um"].min(), cells["y_um"].min(), span(cells["x_um"]), span(cells["y_um"])
    axes.set_aspect("equal", anchor="N")
    gap = 0.02 * max(width, height)
    bar_y = top + height + 3 * gap
    axes.set(xlim=(left - gap, left + width + gap), ylim=(bar_y + 2 * gap, top - gap))
    length = round_length(width / 3)
    axes.plot([left, left + length], [bar_y, bar_y], color=INK, linewidth=1.5, solid_capstyle="butt")
    axes.annotate(f"{length:,g} µm", (left + length, bar_y), (3, 0), textcoords="offset points", va="center", fontsize=6)


def round_length(longest: float) -> float:
    """Return the greatest of 1, 2 and 5 times a power of ten that is not above `longest`."""
    power = 10.0 ** np.floor(np.log10(longest))
    return float(power * max(step for step in (1, 2, 5) if step * power <= longest))
