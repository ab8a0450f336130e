"""Strips across a slide that repeat `train | gate | val`, with buffers between them."""

import itertools
import logging
import math
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nuclass_pipeline.arrays import Booleans, Floats
from nuclass_pipeline.config.evaluation import SplitConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.vocabulary import UNRESOLVED

logger = logging.getLogger(__name__)

SUBSETS = ("train", "gate", "val")
BUFFER = "buffer"
MAX_IN_BUFFERS = 0.5
"""Largest share of the labelled cells that buffers of a whole window may hold; on a smaller slide the buffers are narrower."""
BISECTIONS = 30
"""Steps to the largest strips that fit, which are then exact to a billionth."""
Names = NDArray[np.object_]
"""A text for each cell, (N,): its class or its subset."""


def split_by_strips(path: Path, xy_um: Floats, classes: Names, window_um: float, config: SplitConfig) -> tuple[Names, list[str]]:
    """Return the subset of each cell, (N,), for strips that are a window or the buffer of the run file apart, and a warning if narrower.

    Parameters
    ----------
    path
        File of the cells, for messages.
    xy_um, classes
        Centroids (N, 2), µm, and labels (N,).
    window_um
        Width of a context window along the axes of the cells, µm.
    config
        Fractions, buffer, and length of the repeat.

    Raises
    ------
    UserError
        If a subset has no cell with a label.
    """
    whole_um = window_um if config.buffer_um is None else config.buffer_um
    buffer_um, subsets = whole_um, assign_subsets(xy_um, classes, config, whole_um)
    if config.buffer_um is None and not _enough_left(subsets, classes):
        buffer_um, subsets = _widest_buffer(xy_um, classes, window_um, config)
    logger.info("subsets are at least %.1f µm apart, and a context window is %.1f µm wide", buffer_um, window_um)
    _require_all_subsets(path, subsets, classes, buffer_um, window_um)
    too_wide = f"buffers as wide as a context window ({whole_um:.0f} µm) leave too few labelled cells, so they are {buffer_um:.0f} µm wide"
    return subsets, [too_wide] if buffer_um < whole_um else []


def _enough_left(subsets: Names, classes: Names) -> bool:
    kept = subsets[classes != UNRESOLVED]
    return bool((kept == BUFFER).mean() <= MAX_IN_BUFFERS) and all((kept == subset).any() for subset in SUBSETS) if len(kept) else False


def _widest_buffer(xy_um: Floats, classes: Names, window_um: float, config: SplitConfig) -> tuple[float, Names]:
    """Return the largest buffer of whole µm that leaves enough cells, but no less than half a window, and the subsets."""
    # No narrower, because a window would then show cells of another subset, and a run file with such a buffer is refused.
    low, high = math.ceil(window_um / 2), math.ceil(window_um)
    best = assign_subsets(xy_um, classes, config, low)
    while high - low > 1:
        middle = (low + high) // 2
        subsets = assign_subsets(xy_um, classes, config, middle)
        low, high, best = (middle, high, subsets) if _enough_left(subsets, classes) else (low, middle, best)
    return low, best


def assign_subsets(xy_um: Floats, classes: Names, config: SplitConfig, buffer_um: float) -> Names:
    """Return the subset of each cell, (N,), for the best of all axes and orders of strips.

    Parameters
    ----------
    xy_um
        Centroids, (N, 2), µm.
    classes
        Labels, (N,). Unresolved cells get a subset too, and do not count towards the fractions.
    config
        Fractions, and length of the repeat.
    buffer_um
        Smallest distance between cells of different subsets, µm.
    """
    labelled = classes != UNRESOLVED
    candidates = [cut(xy_um[:, axis], labelled, order, config, buffer_um) for axis in (0, 1) for order in itertools.permutations(SUBSETS)]
    return min(candidates, key=lambda subsets: imbalance(subsets[labelled], classes[labelled]))


def cut(position_um: Floats, labelled: Booleans, order: tuple[str, ...], config: SplitConfig, buffer_um: float) -> Names:
    """Return the subset of each cell, (N,), for strips along one axis with buffers between them.

    Parameters
    ----------
    position_um
        Centroids along the axis, (N,).
    labelled
        Whether a cell has a label, (N,).
    order
        Order of the three subsets along the axis.
    config
        Fractions, and length of the repeat.
    buffer_um
        Smallest distance between strips, µm.
    """
    reference = np.sort(position_um[labelled])
    repeats = max(1, round(float(np.ptp(reference)) / config.band_um)) if len(reference) else 1
    shares = np.tile([getattr(config.fractions, subset) for subset in order], repeats) / repeats
    subsets = np.full(len(position_um), BUFFER, dtype=object)
    for subset, (start_um, end_um) in zip(order * repeats, _strips(reference, shares, buffer_um), strict=True):
        subsets[(position_um >= start_um) & (position_um <= end_um)] = subset
    return subsets


def _strips(reference_um: Floats, shares: Floats, buffer_um: float) -> list[tuple[float, float]]:
    """Return start and end of each strip, for the largest multiple of the shares that leaves room for the buffers."""
    # One multiple for all, because every subset must lose the same share of its cells to the buffers.
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        fits = _lay(reference_um, middle * shares, buffer_um)[-1][1] < reference_um[-1] if len(reference_um) else False
        low, high = (middle, high) if fits else (low, middle)
    strips = _lay(reference_um, low * shares, buffer_um)
    return [*strips[:-1], (strips[-1][0], np.inf)]


def _lay(reference_um: Floats, shares: Floats, buffer_um: float) -> list[tuple[float, float]]:
    strips = []
    start, below = -np.inf, 0.0
    for share in shares:
        end = float(np.quantile(reference_um, min(1.0, below + share))) if len(reference_um) else 0.0
        strips.append((start, end if below + share < 1 else np.inf))
        start = end + buffer_um
        below = np.searchsorted(reference_um, start) / max(1, len(reference_um))
    return strips


def imbalance(subsets: Names, classes: Names) -> float:
    """Return how unbalanced a split of cells (N,) is; 0 is best.

    It is the sum of three terms.

    1. Number of pairs of class and subset without a cell.
    2. Largest total variation between the class mix of a subset and that of all.
    3. Share of cells in buffers.
    """
    # Counted in full, because a class that is missing from a subset cannot be trained or scored there.
    table = pd.crosstab(classes, subsets).reindex(columns=list(SUBSETS), fill_value=0)
    mixes = (table / table.sum().clip(lower=1)).to_numpy()
    whole = (table.sum(axis=1) / max(1, table.to_numpy().sum())).to_numpy()
    return float((table == 0).to_numpy().sum() + np.abs(mixes - whole[:, None]).sum(axis=0).max() / 2 + (subsets == BUFFER).mean())


def _require_all_subsets(path: Path, subsets: Names, classes: Names, buffer_um: float, window_um: float) -> None:
    kept = subsets[classes != UNRESOLVED]
    for subset in SUBSETS:
        if not (kept == subset).any():
            problem = f"none of {len(kept)} labelled cells is left for {subset!r} beside buffers of {buffer_um:g} µm"
            narrower = "Remove split.buffer_um for narrower buffers, or move" if buffer_um > math.ceil(window_um / 2) else "Move"
            raise UserError(path, "subset", problem, f"{narrower} the slide from study.train to study.heldout.")
