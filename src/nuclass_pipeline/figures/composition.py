"""Composition of the study: rings of organs and of classes, for the training slides and for the held-out slides."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Wedge

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.figures.style import COLORS, FAINT, INK, hide_frame, in_order, new_figure, short_name
from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import COHORT
from nuclass_pipeline.vocabulary import UNRESOLVED

# Square roots and this minimum, because the paper's figure has both: rare classes stay visible.
MIN_WEDGE_DEG = 2.0
"""Smallest angle of a class."""
_TITLES = {"train": "Training", "heldout": "Held out"}
_INNER, _MIDDLE, _OUTER, _TEXT = 0.56, 0.93, 1.24, 1.36
# The names of narrower wedges are written across the ring, because they do not fit along it.
_ALONG_DEG = 30
# Height of a line of text at the radius of the labels, degrees. Less, and neighbouring labels overlap.
_LINE_DEG = 4.6


def draw(*, cohort: Path) -> Figure:
    """Draw the rings; angles grow with the square root of a share, and the true percentages are printed.

    Parameters
    ----------
    cohort
        Cohort table.
    """
    cells = read_table(cohort, COHORT)
    cells = cells[(cells["subset"] == "all") & (cells["label"] != UNRESOLVED)]
    figure = new_figure(3.75)
    for axes, (role, title) in zip(figure.subplots(1, 2), _TITLES.items(), strict=True):
        _rings(axes, cells[cells["role"] == role], title)
    return figure


def compress(shares: Floats, whole: float, smallest: Floats) -> Floats:
    """Divide an angle in proportion to the square roots of shares, with a minimum for each part.

    Parameters
    ----------
    shares
        (N,) positive numbers.
    whole
        Degrees to divide; at least the sum of `smallest`.
    smallest
        (N,) minimum of each part, degrees.

    Returns
    -------
    NDArray
        (N,) degrees that add up to `whole`.
    """
    roots, fixed = np.sqrt(shares), np.zeros(len(shares), bool)
    while True:
        free = (whole - smallest[fixed].sum()) * roots / roots[~fixed].sum() if not fixed.all() else smallest
        angles = np.where(fixed, smallest, free)
        below = angles < smallest - 1e-9
        if not below.any():
            return angles
        fixed |= below


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


def spread_circle(angles: Floats, gap: float) -> Floats:
    """Move angles like `spread`, but on a circle: the widest space between neighbours is cut open first."""
    room = np.diff(angles, append=angles[0] + 360)
    cut = int(room.argmax()) + 1
    opened = np.concatenate([angles[cut:], angles[:cut] + 360])
    return np.roll(spread(opened, gap), cut)


def _rings(axes: Axes, cells: pd.DataFrame, title: str) -> None:
    hide_frame(axes)
    axes.set(xlim=(-2.16, 2.16), ylim=(-2.2, 2.2), aspect="equal")
    total = int(cells["cells"].sum())
    slides = cells["slide"].nunique()
    axes.text(0, 0, f"{title}\n{total:,} cells\n{slides} slide{'s' * (slides != 1)}", ha="center", va="center", fontsize=7, linespacing=1.4)
    if not total:
        return
    organs = cells.groupby("organ")["cells"].sum().sort_values(ascending=False)
    tables = {organ: _classes(cells[cells["organ"] == organ]) for organ in organs.index}
    least = np.array([MIN_WEDGE_DEG * len(tables[organ]) for organ in organs.index])
    start, labels = 90.0, []
    for organ, width in zip(organs.index, compress(organs.to_numpy().astype(np.float64), 360.0, least), strict=True):
        axes.add_patch(_wedge(start, width, (_INNER, _MIDDLE), FAINT, f"organ:{organ}"))
        _inside(axes, start - width / 2, width, f"{organ}\n{100 * organs[organ] / total:.1f} %")
        labels += _outer_ring(axes, tables[organ], start, width)
        start -= width
    _write_labels(axes, labels)


def _classes(cells: pd.DataFrame) -> "pd.Series[int]":
    counts = cells.groupby("label")["cells"].sum()
    return counts.reindex(in_order(counts.index)).sort_values(ascending=False, kind="stable")


def _outer_ring(axes: Axes, counts: "pd.Series[int]", start: float, whole: float) -> list[tuple[float, str]]:
    labels = []
    angles = compress(counts.to_numpy().astype(np.float64), whole, np.full(len(counts), MIN_WEDGE_DEG))
    for label, width in zip(counts.index, angles, strict=True):
        axes.add_patch(_wedge(start, width, (_MIDDLE, _OUTER), COLORS[label], f"class:{label}"))
        labels.append((start - width / 2, f"{short_name(label)} {100 * counts[label] / counts.sum():.1f}"))
        start -= width
    return labels


def _wedge(start: float, width: float, radii: tuple[float, float], color: str, gid: str) -> Wedge:
    wedge = Wedge((0, 0), radii[1], start - width, start, width=radii[1] - radii[0], facecolor=color, edgecolor="white", linewidth=0.5)
    wedge.set_gid(gid)
    return wedge


def _inside(axes: Axes, angle: float, width: float, text: str) -> None:
    """Write a name along the ring, or across it where the wedge is narrow."""
    x, y = _point(angle, (_INNER + _MIDDLE) / 2)
    turn = _upright(angle if width < _ALONG_DEG else angle - 90)
    size = float(np.clip(width / 3.5, 4, 5.5))
    axes.text(x, y, text, rotation=turn, ha="center", va="center", fontsize=size, linespacing=1.0)


def _write_labels(axes: Axes, labels: Sequence[tuple[float, str]]) -> None:
    clockwise = spread_circle(-np.array([angle for angle, _ in labels]), min(_LINE_DEG, 360 / len(labels)))
    for (angle, text), place in zip(labels, -clockwise, strict=True):
        bend, end = _point(place, _TEXT - 0.02), _point(angle, _OUTER)
        axes.plot(*zip(end, bend, strict=True), color=INK, linewidth=0.35, solid_capstyle="round")
        left = np.cos(np.radians(place)) < 0
        axes.text(
            *_point(place, _TEXT),
            text,
            rotation=_upright(place),
            rotation_mode="anchor",
            ha="right" if left else "left",
            va="center",
            fontsize=5.5,
        )


def _point(angle: float, radius: float) -> tuple[float, float]:
    return float(radius * np.cos(np.radians(angle))), float(radius * np.sin(np.radians(angle)))


def _upright(angle: float) -> float:
    turned = (angle + 180) % 360 - 180
    return turned + 180 if turned < -90 else turned - 180 if turned > 90 else turned
