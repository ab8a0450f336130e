"""Composition of the study: rings of organs and of classes, for the training slides and for the held-out slides."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Wedge

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.figures.style import COLORS, FAINT, INK, SMALL_PT, WIDTH_IN, hide_frame, new_figure, percent, short_name
from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import ALL, COHORT
from nuclass_pipeline.vocabulary import UNRESOLVED

OTHER = "other"
SMALLEST_SHARE = 0.01
"""Smallest share of all cells of a ring that has a wedge of its own; smaller ones of an organ are drawn as one."""
MAX_WEDGES = 24
"""Most wedges of one ring besides those named `other`, so that the labels do not overlap."""
_OTHER_COLOR = "#8c8c8c"
_TITLES = {"train": "Training", "heldout": "Held out"}
# In inches, as all lengths in the panel of a ring.
_INNER, _MIDDLE, _OUTER, _BEND, _TEXT = 0.5, 0.95, 1.25, 1.42, 1.6
_HALF_IN, _LINE_IN = 1.7, 0.125
# The names of narrower organs are written behind their classes, because they do not fit into the ring.
_NARROWEST_DEG = 24
_LETTERS = 150


def draw(*, cohort: Path) -> Figure:
    """Draw the rings; an angle is the share of all labelled cells, and so is the percentage next to it.

    Parameters
    ----------
    cohort
        Cohort table.
    """
    table = read_table(cohort, COHORT)
    table = table[table["subset"] == ALL]
    parts = {role: table[table["role"] == role] for role in _TITLES}
    notes = {role: _notes(_counts(part)) for role, part in parts.items()}
    heights = [2 * _HALF_IN + 0.3 + _LINE_IN * len(lines) for lines in notes.values()]
    figure = new_figure(sum(heights))
    for axes, height, (role, part) in zip(figure.subplots(2, 1, height_ratios=heights), heights, parts.items(), strict=True):
        _rings(axes, part, _TITLES[role])
        axes.set_ylim(_HALF_IN + 0.3 - height, _HALF_IN)
        axes.text(-WIDTH_IN / 2, -_HALF_IN, "\n".join(notes[role]), va="top", fontsize=SMALL_PT, linespacing=1.35)
    return figure


def pool_small(counts: "pd.Series[int]", total: int) -> tuple["pd.Series[int]", "pd.Series[int]"]:
    """Divide counts by (organ, class) into wedges and what is pooled.

    Parameters
    ----------
    counts
        Cells by organ and class.
    total
        All cells of the rings.

    Returns
    -------
    wedges
        The largest counts, and of each organ the sum of the others as class `other`. A single small class stays as it is.
    pooled
        The counts in those sums.
    """
    ranked = counts.sort_values(ascending=False, kind="stable")
    small = (ranked < SMALLEST_SHARE * total) | (np.arange(len(ranked)) >= MAX_WEDGES)
    # One class alone stays, because `other` would hide its name and save no room.
    alone = small & (small.groupby(level="organ").transform("sum") == 1) & (np.arange(len(ranked)) < MAX_WEDGES)
    pooled = ranked[small & ~alone]
    sums = pooled.groupby(level="organ").sum()
    sums.index = pd.MultiIndex.from_product([sums.index, [OTHER]], names=counts.index.names)
    return pd.concat([ranked[~small | alone], sums]), pooled


def spread(angles: Floats, gap: float) -> Floats:
    """Move sorted angles as little as possible until neighbours are a gap apart.

    The least-squares solution is an isotonic regression of the angles minus their gaps, by pooling adjacent violators.

    Parameters
    ----------
    angles
        (N,) angles, ascending, degrees.
    gap
        Minimum distance of neighbours, degrees.
    """
    blocks: list[list[float]] = []
    for target in angles - gap * np.arange(len(angles)):
        blocks.append([target])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    level = np.concatenate([np.full(len(block), np.mean(block)) for block in blocks])
    moved: Floats = level + gap * np.arange(len(angles))
    return moved


def _counts(cells: pd.DataFrame) -> "pd.Series[int]":
    """Count labelled cells by organ, from the largest, and class, from the largest."""
    counts = cells[cells["label"] != UNRESOLVED].groupby(["organ", "label"])["cells"].sum()
    counts = counts[counts > 0]
    order = np.lexsort((-counts, -counts.groupby(level="organ").transform("sum")))
    return counts.iloc[order]


def _rings(axes: Axes, cells: pd.DataFrame, title: str) -> None:
    hide_frame(axes)
    axes.set(xlim=(-WIDTH_IN / 2, WIDTH_IN / 2), aspect="equal", anchor="N")
    counts = _counts(cells)
    total, slides = int(counts.sum()), cells["slide"].nunique()
    without = int(cells["cells"].sum()) - total
    axes.set_title(f"{title}: {slides} slide{'s' * (slides != 1)}", loc="left")
    axes.set_title(f"without label, left out: {without:,} cells", loc="right", fontsize=SMALL_PT, fontweight="normal")
    axes.text(0, 0, f"{total:,}\nlabelled\ncells", ha="center", va="center", fontsize=7, linespacing=1.3)
    if not total:
        return
    wedges, _ = pool_small(counts, total)
    start, labels = 90.0, []
    for organ, n in counts.groupby(level="organ", sort=False).sum().items():
        width = 360 * n / total
        axes.add_patch(_wedge(start, width, (_INNER, _MIDDLE), FAINT, f"organ:{organ}"))
        fits = width >= _NARROWEST_DEG
        if fits:
            place = _point(start - width / 2, (_INNER + _MIDDLE) / 2)
            axes.text(*place, f"{organ}\n{percent(n, total)}", ha="center", va="center", fontsize=SMALL_PT)
        labels += _outer_ring(axes, wedges.xs(organ, level="organ"), start, total, "" if fits else f" ({organ})")
        start -= width
    _write_labels(axes, labels)


def _outer_ring(axes: Axes, counts: "pd.Series[int]", start: float, total: int, behind: str) -> list[tuple[float, str]]:
    labels = []
    for label, n in counts.items():
        width, name = 360 * n / total, str(label)
        axes.add_patch(_wedge(start, width, (_MIDDLE, _OUTER), COLORS.get(name, _OTHER_COLOR), f"class:{name}"))
        labels.append((start - width / 2, f"{name if name == OTHER else short_name(name)}{behind} {percent(n, total)}"))
        start -= width
    return labels


def _notes(counts: "pd.Series[int]") -> list[str]:
    """Return lines on the classes that `other` pools."""
    total = int(counts.sum())
    _, pooled = pool_small(counts, total)
    lines = []
    for organ in dict.fromkeys(pooled.index.get_level_values("organ")):
        known = pooled[organ]
        tiny = [short_name(str(label)) for label in known.index if percent(known[label], total).startswith("<")]
        # With no-break spaces, because a line must not end within a number.
        names = [f"{short_name(str(label))} {percent(n, total)}".replace(" %", "\xa0%") for label, n in known.items()]
        rest = [f"and with less than 0.1\xa0% each {', '.join(tiny)}"] if tiny else []
        lines += wrap(f"Other, {organ}: {', '.join([*names[: len(names) - len(tiny)], *rest])}.", _LETTERS)
    return lines


def _wedge(start: float, width: float, radii: tuple[float, float], color: str, gid: str) -> Wedge:
    wedge = Wedge((0, 0), radii[1], start - width, start, width=radii[1] - radii[0], facecolor=color, edgecolor="white", linewidth=0.3)
    wedge.set_gid(gid)
    return wedge


def _write_labels(axes: Axes, labels: Sequence[tuple[float, str]]) -> None:
    """Write the names of wedges at both sides, each on a line of its own, and join them to their wedges."""
    for side in (1, -1):
        shown = [(*_point(angle, _OUTER), *_point(angle, _BEND), text) for angle, text in labels if side * _point(angle, 1)[0] >= 0]
        shown.sort(key=lambda label: label[3])
        heights = spread(np.array([label[3] for label in shown]), min(_LINE_IN, 2 * _HALF_IN / max(len(shown), 1)))
        # Moved into the panel, because many small wedges next to each other would push their names over its edge.
        heights += max(0, -_HALF_IN + 0.07 - heights.min(initial=0)) - max(0, heights.max(initial=0) - _HALF_IN + 0.07)
        for (x, y, bend_x, bend_y, text), height in zip(shown, heights, strict=True):
            axes.plot([x, bend_x, side * (_TEXT - 0.04)], [y, bend_y, height], color=INK, linewidth=0.35, solid_capstyle="round")
            axes.text(side * _TEXT, height, text, ha="left" if side > 0 else "right", va="center", fontsize=SMALL_PT)


def _point(angle: float, radius: float) -> tuple[float, float]:
    return float(radius * np.cos(np.radians(angle))), float(radius * np.sin(np.radians(angle)))
