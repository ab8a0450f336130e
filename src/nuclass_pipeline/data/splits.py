"""The spatial split of a slide into subsets, with buffers between them so that no window of a cell holds a cell of another subset.

A slide is cut across one axis into strips that repeat `train | gate | val`. The order and the axis are those that keep the class mix of
the subsets most alike and lose the fewest cells. Cells between strips are in no subset, so cells of different subsets are at least
`buffer_um` apart. Strips, not blocks, because a buffer around every block would use up a small slide (docs/development.md).
A slide of kind `images` is split by case instead, without buffers, and its blocks are its cases.
"""

import itertools
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nuclass_pipeline.arrays import Booleans, Floats
from nuclass_pipeline.config.evaluation import SplitConfig
from nuclass_pipeline.data.cases import assign_cases
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_reasons, read_table, write_table
from nuclass_pipeline.schemas import CELLS, LABELS, SPLIT
from nuclass_pipeline.vocabulary import UNRESOLVED

logger = logging.getLogger(__name__)

SUBSETS = ("train", "gate", "val")
BUFFER, HELDOUT, EXCLUDED = "buffer", "heldout", "excluded"
MIN_LABELLED = 500
"""Cells of a slide below which a warning is written: the 95 % interval of a share of 500 cells is at least ± 4 %, if it is 0.5."""
MIN_OF_CLASS = 5
"""Cells of a class in each subset of a training slide below which a warning is written."""
BISECTIONS = 30
"""Steps to the largest strips that fit, which are then exact to a billionth."""
Names = NDArray[np.object_]
"""A text for each cell, (N,): its class or its subset."""


def split_cells(*, cells: Path, labels: Path, patches: Path, role: str, config: SplitConfig, split: Path) -> None:
    """Assign every cell of a slide to a subset and to a block of the bootstrap.

    Cells without image are `excluded`: no model sees them, and no score counts them. All other cells of a slide whose role is not `train`
    are `heldout`.

    Parameters
    ----------
    cells, labels
        Tables `CELLS` and `LABELS`.
    patches
        File of local patches, which says why a cell has no image.
    role
        Role of the slide: train, heldout or predict.
    config
        Fractions, buffer and blocks.
    split
        Table `SPLIT` to write, with warnings about cells without image, small slides, and classes that are rare in a subset.

    Raises
    ------
    UserError
        If no cell has an image, or a subset has no cell with a label.
    """
    table = read_table(cells, CELLS)
    xy_um = table[["x_um", "y_um"]].to_numpy()
    classes = _classes(labels, table["cell_id"])
    reasons = _reasons(patches, table["cell_id"].to_numpy())
    imaged = reasons == ""
    subsets = np.where(imaged, HELDOUT, EXCLUDED).astype(object)
    cases = table["case"].to_numpy() if "case" in table else None
    if role == "train" and cases is not None:
        subsets[imaged] = split_by_case(cells, cases[imaged], classes[imaged], config)
    elif role == "train":
        subsets[imaged] = assign_subsets(xy_um[imaged], classes[imaged], config)
    if role == "train":
        _require_all_subsets(cells, subsets, classes, config)
    warnings = [*_missing_images(reasons), *(_small_numbers(subsets[imaged], classes[imaged]) if role != "predict" else [])]
    frame = pd.DataFrame(
        {"cell_id": table["cell_id"], "subset": subsets, "block": blocks(xy_um, config.block_um) if cases is None else cases}
    )
    write_table(frame.assign(reason=pd.Series([reason or None for reason in reasons], dtype=object)), split, SPLIT, warnings)


def _classes(labels: Path, cells: "pd.Series[str]") -> Names:
    """Return the label of each cell, (N,)."""
    known = read_table(labels, LABELS, ["cell_id", "label"]).set_index("cell_id")["label"]
    if absent := [cell for cell in cells if cell not in known.index]:
        raise UserError(labels, "cell_id", f"no row for {len(absent)} cells, such as {absent[0]}", "Remove the file and run again.")
    return known.reindex(cells).to_numpy()


def _reasons(patches: Path, cells: Names) -> Names:
    """Return why each cell has no image, (N,); empty where it has one."""
    known = read_reasons(patches)
    if absent := [cell for cell in cells if cell not in known]:
        raise UserError(patches, "keys", f"no patch for {len(absent)} cells, such as {absent[0]}", "Remove the file and run again.")
    reasons = np.array([known[cell] for cell in cells], dtype=object)
    if not (reasons == "").any():
        problem = f"none of {len(cells)} cells has an image: {_counted(reasons)}"
        raise UserError(patches, "reason", problem, "Check the H&E and its alignment, or remove the slide from the study.")
    return reasons


def _counted(reasons: Names) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in Counter(reasons[reasons != ""]).most_common())


def _missing_images(reasons: Names) -> Iterator[str]:
    if lost := int((reasons != "").sum()):
        yield f"{lost} of {len(reasons)} cells have no image and are in no subset: {_counted(reasons)}"


def _small_numbers(subsets: Names, classes: Names) -> Iterator[str]:
    """Yield a warning for a small slide, and one for the classes that are rare in a subset of a training slide."""
    labelled = classes != UNRESOLVED
    if labelled.sum() < MIN_LABELLED:
        yield f"only {labelled.sum()} cells have a label and an image; scores of fewer than {MIN_LABELLED} are uncertain"
    if (subsets == HELDOUT).any():
        return
    counts = pd.crosstab(classes[labelled], subsets[labelled]).reindex(columns=[*SUBSETS, BUFFER], fill_value=0)
    rare = counts[counts[list(SUBSETS)].min(axis=1) < MIN_OF_CLASS]
    if len(rare):
        listed = "; ".join(f"{name}: {', '.join(f'{subset} {n}' for subset, n in row.items())}" for name, row in rare.iterrows())
        yield f"{len(rare)} of {len(counts)} classes have fewer than {MIN_OF_CLASS} cells in a subset. {listed}"


def blocks(xy_um: Floats, block_um: float) -> list[str]:
    """Return the name of the square block of `block_um` that holds each cell, (N,), as row-column."""
    index = np.floor((xy_um - xy_um.min(axis=0)) / block_um).astype(int)
    return [f"{row}-{column}" for column, row in index]


def assign_subsets(xy_um: Floats, classes: Names, config: SplitConfig) -> Names:
    """Return the subset of each cell, (N,), for the best of all axes and orders of strips.

    Parameters
    ----------
    xy_um
        Centroids, (N, 2), µm.
    classes
        Labels, (N,). Unresolved cells get a subset too, and do not count towards the fractions.
    config
        Fractions, buffer, and length of the repeat.
    """
    labelled = classes != UNRESOLVED
    candidates = [cut(xy_um[:, axis], labelled, order, config) for axis in (0, 1) for order in itertools.permutations(SUBSETS)]
    return min(candidates, key=lambda subsets: imbalance(subsets[labelled], classes[labelled]))


def split_by_case(path: Path, cases: Names, classes: Names, config: SplitConfig) -> Names:
    """Return the subset of each cell, (N,): whole cases, so that each class comes near the fractions in every subset.

    Raises
    ------
    UserError
        If fewer than three cases have a labelled cell.
    """
    labelled = classes != UNRESOLVED
    counts = pd.crosstab(cases[labelled], classes[labelled])
    if len(counts) < len(SUBSETS):
        problem = f"{len(counts)} cases have labelled cells, and the {len(SUBSETS)} subsets need a case each"
        raise UserError(path, "case", problem, "Add images of other cases, or move the slide from study.train to study.heldout.")
    shares = np.array([getattr(config.fractions, subset) for subset in SUBSETS])
    chosen = dict(zip(counts.index, assign_cases(counts.to_numpy(), shares), strict=True))
    # Train for a case without a label, because none of its cells is used.
    return np.array([SUBSETS[chosen.get(case, 0)] for case in cases], dtype=object)


def cut(position_um: Floats, labelled: Booleans, order: tuple[str, ...], config: SplitConfig) -> Names:
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
        Fractions, buffer, and length of the repeat.
    """
    reference = np.sort(position_um[labelled])
    repeats = max(1, round(float(np.ptp(reference)) / config.band_um)) if len(reference) else 1
    shares = np.tile([getattr(config.fractions, subset) for subset in order], repeats) / repeats
    subsets = np.full(len(position_um), BUFFER, dtype=object)
    for subset, (start_um, end_um) in zip(order * repeats, _strips(reference, shares, config.buffer_um), strict=True):
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


def _require_all_subsets(path: Path, subsets: Names, classes: Names, config: SplitConfig) -> None:
    for subset in SUBSETS:
        count = int(((subsets == subset) & (classes != UNRESOLVED)).sum())
        logger.info("%s: %d labelled cells", subset, count)
        if count == 0:
            problem = f"no labelled cell is left for {subset!r}: the slide is too small for split.buffer_um = {config.buffer_um:g}"
            raise UserError(path, "subset", problem, "Lower split.buffer_um, or move the slide from study.train to study.heldout.")
