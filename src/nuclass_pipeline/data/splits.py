"""Guarded spatial splits: parts of a slide that no window can see across.

A slide is cut across one axis into strips that repeat `train | gate | val` (in the order and along the axis that keep the class mix of the
parts most alike). Cells near a cut are in no part, so cells of different parts are at least `guard_um` apart.
"""

import itertools
import logging
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nuclass_pipeline.config.study import Fractions, SplitConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_table, write_table
from nuclass_pipeline.schemas import CELLS, LABELS, SPLIT
from nuclass_pipeline.vocabulary import UNRESOLVED

logger = logging.getLogger(__name__)

PARTS = ("train", "gate", "val")
GUARD = "guard"
HELDOUT = "heldout"


def split_cells(*, cells: Path, labels: Path, role: str, config: SplitConfig, split: Path) -> None:
    """Assign every cell of a slide to a part; all cells of a held-out slide are `heldout`."""
    table = read_table(cells, CELLS)
    xy_um = table[["x_um", "y_um"]].to_numpy()
    if role == HELDOUT:
        parts = np.full(len(table), HELDOUT, dtype=object)
    else:
        classes = read_table(labels, LABELS).set_index("cell_id")["label"].reindex(table["cell_id"]).to_numpy()
        parts = assign_parts(xy_um, classes, config)
        _require_all_parts(cells, parts, classes, config)
    write_table(pd.DataFrame({"cell_id": table["cell_id"], "part": parts, "block": blocks(xy_um, config.block_um)}), split, SPLIT)


def blocks(xy_um: NDArray[np.float64], block_um: float) -> list[str]:
    """Name the square block of each cell, (N,)."""
    index = np.floor((xy_um - xy_um.min(axis=0)) / block_um).astype(int)
    return [f"{row}-{column}" for column, row in index]


def assign_parts(xy_um: NDArray[np.float64], classes: NDArray[np.object_], config: SplitConfig) -> NDArray[np.object_]:
    """Return the part of each cell, (N,), for the best of all axes and orders of strips.

    Parameters
    ----------
    xy_um
        (N, 2) centroids, µm.
    classes
        (N,) labels; Unresolved cells get a part too but do not count towards shares.
    """
    labelled = classes != UNRESOLVED
    candidates = [cut(xy_um[:, axis], labelled, order, config) for axis in (0, 1) for order in itertools.permutations(PARTS)]
    return min(candidates, key=lambda parts: imbalance(parts[labelled], classes[labelled], config.fractions))


def cut(position_um: NDArray[np.float64], labelled: NDArray[np.bool_], order: tuple[str, ...], config: SplitConfig) -> NDArray[np.object_]:
    """Cut one axis into strips at quantiles of the labelled cells and clear the guard bands, (N,)."""
    reference = np.sort(position_um[labelled])
    repeats = max(1, round(float(np.ptp(reference)) / config.band_um)) if len(reference) else 1
    shares = np.tile([getattr(config.fractions, part) for part in order], repeats) / repeats
    cuts_um = np.quantile(reference, np.cumsum(shares)[:-1]) if len(reference) else np.zeros(len(shares) - 1)
    parts = np.array(order * repeats, dtype=object)[np.searchsorted(cuts_um, position_um)]
    near = np.abs(position_um[:, None] - cuts_um[None, :]).min(axis=1) < config.guard_um / 2
    parts[near] = GUARD
    return parts


def imbalance(parts: NDArray[np.object_], classes: NDArray[np.object_], fractions: Fractions) -> float:
    """Return how unlike the parts are: class–part pairs without a cell, plus the total variation between class mixes."""
    table = pd.crosstab(classes, parts).reindex(columns=list(PARTS), fill_value=0)
    mixes = (table / table.sum().clip(lower=1)).to_numpy()
    whole = (table.sum(axis=1) / max(1, table.to_numpy().sum())).to_numpy()
    return float((table == 0).to_numpy().sum() + np.abs(mixes - whole[:, None]).sum(axis=0).max() / 2)


def _require_all_parts(path: Path, parts: NDArray[np.object_], classes: NDArray[np.object_], config: SplitConfig) -> None:
    for part in PARTS:
        count = int(((parts == part) & (classes != UNRESOLVED)).sum())
        logger.info("%s: %d labelled cells", part, count)
        if count == 0:
            raise UserError(
                path, "part", f"no labelled cell is left for {part!r}", f"The slide is too small for split.guard_um = {config.guard_um:g}."
            )
