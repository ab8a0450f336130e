"""What makes a figure illegible, measured by the renderer."""

import re

import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text

LEAST_PT = 6.0
SYMBOL = re.compile(r"(?<![\w&'’.-])(?![BT] cell|a [a-z])[^\W\d_](?![\w&.-])")
"""A letter that is a word of its own, such as g, which a reader would have to look up."""


def texts_of(figure: Figure) -> list[Text]:
    """Return all texts that are drawn."""
    found = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
    hidden = {text for axes in figure.axes if not axes.get_visible() for text in axes.findobj(Text)}
    return [text for text in found if text not in hidden and _is_drawn(text)]


def _is_drawn(text: Text) -> bool:
    """Return whether a tick label lies within the limits of its axis; others are not drawn."""
    axes = text.axes
    if axes is None:
        return True
    for axis, place in ((axes.xaxis, 0), (axes.yaxis, 1)):
        if text in [label for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()) for label in (tick.label1, tick.label2)]:
            low, high = sorted(axis.get_view_interval())
            return bool(low - 1e-9 <= text.get_position()[place] <= high + 1e-9)
    return True


def problems(figure: Figure) -> list[str]:
    """Return texts that are too small, have a symbol, reach over the edge of the figure, or overlap."""
    figure.draw_without_rendering()
    texts = texts_of(figure)
    boxes = {text: text.get_window_extent() for text in texts}
    width, height = figure.bbox.size
    found = [f"{text.get_text()!r} is {text.get_fontsize():.1f} pt" for text in texts if text.get_fontsize() < LEAST_PT]
    found += [f"{text.get_text()!r} has a symbol" for text in texts if SYMBOL.search(text.get_text())]
    for text, box in boxes.items():
        if min(box.x0, box.y0) < 0 or box.x1 > width or box.y1 > height:
            found.append(f"{text.get_text()!r} reaches over the edge: {box.extents.round()}")
    low = np.array([[box.x0 + 1, box.y0 + 1] for box in boxes.values()])
    high = np.array([[box.x1 - 1, box.y1 - 1] for box in boxes.values()])
    overlapping = ((low[:, None] < high[None]) & (low[None] < high[:, None])).all(axis=2)
    pairs = np.argwhere(np.triu(overlapping, 1))
    return [*found, *(f"{texts[one].get_text()!r} overlaps {texts[other].get_text()!r}" for one, other in pairs)]
