"""Guarded spatial splits: parts of a slide that no window can see across.

A slide is cut across one axis into strips that repeat `train | gate | val`, in the order and along the axis that keep the class mix of the
parts most alike and lose the fewest cells. Cells between strips are in no part, so cells of different parts are at least `buffer_um` apart.
"""

import itertools
import logging
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nuclass_pipeline.config.evaluation import SplitConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_table, write_table
from nuclass_pipeline.schemas import CELLS, LABELS, SPLIT
from nuclass_pipeline.vocabulary import UNRESOLVED

logger = logging.getLogger(__name__)

SUBSETS = ("train", "gate", "val")
BUFFER = "guard"
HELDOUT = "heldout"


def split_cells(*, cells: Path, labels: Path, role: str, config: SplitConfig, split: Path) -> None:
    """Assign every cell of a slide to a part; all cells of a slide that is not for training are `heldout`."""
    table = read_table(cells, CELLS)
    xy_um = table[["x_um", "y_um"]].to_numpy()
    if role != "train":
        parts = np.full(len(table), HELDOUT, dtype=object)
    else:
        classes = read_table(labels, LABELS).set_index("cell_id")["label"].reindex(table["cell_id"]).to_numpy()
        parts = assign_subsets(xy_um, classes, config)
        _require_all_subsets(cells, parts, classes, config)
    write_table(pd.DataFrame({"cell_id": table["cell_id"], "part": parts, "block": blocks(xy_um, config.block_um)}), split, SPLIT)


def blocks(xy_um: NDArray[np.float64], block_um: float) -> list[str]:
    """Name the square block of each cell, (N,)."""
    index = np.floor((xy_um - xy_um.min(axis=0)) / block_um).astype(int)
    return [f"{row}-{column}" for column, row in index]


def assign_subsets(xy_um: NDArray[np.float64], classes: NDArray[np.object_], config: SplitConfig) -> NDArray[np.object_]:
    """Return the part of each cell, (N,), for the best of all axes and orders of strips.

    Parameters
    ----------
    xy_um
        (N, 2) centroids, µm.
    classes
        (N,) labels; Unresolved cells get a part too but do not count towards shares.
    """
    labelled = classes != UNRESOLVED
    candidates = [cut(xy_um[:, axis], labelled, order, config) for axis in (0, 1) for order in itertools.permutations(SUBSETS)]
    return min(candidates, key=lambda parts: imbalance(parts[labelled], classes[labelled]))


def cut(position_um: NDArray[np.float64], labelled: NDArray[np.bool_], order: tuple[str, ...], config: SplitConfig) -> NDArray[np.object_]:
    """Lay strips with guard bands between them along one axis, (N,).

    The strips hold equal multiples of their fractions of the labelled cells: what the bands take is shared by all.
    """
    reference = np.sort(position_um[labelled])
    repeats = max(1, round(float(np.ptp(reference)) / config.band_um)) if len(reference) else 1
    shares = np.tile([getattr(config.fractions, part) for part in order], repeats) / repeats
    parts = np.full(len(position_um), BUFFER, dtype=object)
    for part, (start_um, end_um) in zip(order * repeats, _strips(reference, shares, config.buffer_um), strict=True):
        parts[(position_um >= start_um) & (position_um <= end_um)] = part
    return parts


def _strips(reference_um: NDArray[np.float64], shares: NDArray[np.float64], buffer_um: float) -> list[tuple[float, float]]:
    """Return (start, end) of each strip for the largest common multiple of the shares that fits, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        fits = _lay(reference_um, middle * shares, buffer_um)[-1][1] < reference_um[-1] if len(reference_um) else False
        low, high = (middle, high) if fits else (low, middle)
    strips = _lay(reference_um, low * shares, buffer_um)
    return [*strips[:-1], (strips[-1][0], np.inf)]


def _lay(reference_um: NDArray[np.float64], shares: NDArray[np.float64], buffer_um: float) -> list[tuple[float, float]]:
    strips = []
    start, below = -np.inf, 0.0
    for share in shares:
        end = float(np.quantile(reference_um, min(1.0, below + share))) if len(reference_um) else 0.0
        strips.append((start, end if below + share < 1 else np.inf))
        start = end + buffer_um
        below = np.searchsorted(reference_um, start) / max(1, len(reference_um))
    return strips


def imbalance(parts: NDArray[np.object_], classes: NDArray[np.object_]) -> float:
    """Return how bad a split is: class–part pairs without a cell, the largest distance between class mixes, and the share of cells lost.

    The distance is the total variation between the class mix of a part and that of all parts.
    """
    table = pd.crosstab(classes, parts).reindex(columns=list(SUBSETS), fill_value=0)
    mixes = (table / table.sum().clip(lower=1)).to_numpy()
    whole = (table.sum(axis=1) / max(1, table.to_numpy().sum())).to_numpy()
    return float((table == 0).to_numpy().sum() + np.abs(mixes - whole[:, None]).sum(axis=0).max() / 2 + (parts == BUFFER).mean())


def _require_all_subsets(path: Path, parts: NDArray[np.object_], classes: NDArray[np.object_], config: SplitConfig) -> None:
    for part in SUBSETS:
        count = int(((parts == part) & (classes != UNRESOLVED)).sum())
        logger.info("%s: %d labelled cells", part, count)
        if count == 0:
            raise UserError(
                path,
                "part",
                f"no labelled cell is left for {part!r}",
                f"The slide is too small for split.buffer_um = {config.buffer_um:g}.",
            )
