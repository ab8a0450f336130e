"""The spatial split of a slide into subsets, with buffers between them so that their cells share no pixel of a context window.

A slide is cut across one axis into strips that repeat `train | gate | val`. The order and the axis are those that keep the class mix of
the subsets most alike and lose the fewest cells. Cells between strips are in no subset, so cells of different subsets are at least a
buffer apart. Strips, not blocks, because a buffer around every block would use up a small slide (docs/development.md).
A slide of kind `images` is split by case instead, without buffers, and its blocks are its cases.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.config.evaluation import SplitConfig
from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.cases import assign_cases
from nuclass_pipeline.data.shared_pixels import ContextWindows
from nuclass_pipeline.data.strips import BUFFER, SUBSETS, Names, split_by_strips
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_reasons, read_table, write_table
from nuclass_pipeline.schemas import CELLS, LABELS, SPLIT
from nuclass_pipeline.vocabulary import UNRESOLVED

logger = logging.getLogger(__name__)

HELDOUT, EXCLUDED = "heldout", "excluded"
MIN_LABELLED = 500
"""Cells of a slide below which a warning is written: the 95 % interval of a share of 500 cells is at least ± 4 %, if it is 0.5."""
MIN_OF_CLASS = 5
"""Cells of a class in each subset of a training slide below which a warning is written."""


def split_cells(
    *,
    cells: Path,
    labels: Path,
    patches: Path,
    registration: Path | None = None,
    role: str,
    config: SplitConfig,
    image: ImageConfig,
    split: Path,
) -> None:
    """Assign every cell of a slide to a subset and to a block of the bootstrap.

    Cells without image are `excluded`: no model sees them, and no score counts them. All other cells of a slide whose role is not `train`
    are `heldout`.

    Parameters
    ----------
    cells, labels
        Tables `CELLS` and `LABELS`.
    patches
        File of local patches, which says why a cell has no image.
    registration
        The alignment that places the cells on the image; none for a patch dataset, whose cells are placed already.
    role
        Role of the slide: train, heldout or predict.
    config
        Fractions, buffer and blocks.
    image
        Pixel size, and side of the context windows.
    split
        Table `SPLIT` to write, with warnings about cells without image, small slides, classes that are rare in a subset, and cells whose
        context window shares pixels with those that are trained on.

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
    warnings = [*_missing_images(reasons)]
    if role == "train":
        windows = ContextWindows.place(xy_um[imaged], registration, image)
        if cases is None:
            subsets[imaged], notes = split_by_strips(cells, xy_um[imaged], classes[imaged], windows.width_um, config)
        else:
            subsets[imaged], notes = split_by_case(cells, cases[imaged], classes[imaged], config), []
        warnings += [*notes, *_shared_pixels(windows, subsets[imaged], classes[imaged])]
    if role != "predict":
        warnings += _small_numbers(subsets[imaged], classes[imaged])
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


def _shared_pixels(windows: ContextWindows, subsets: Names, classes: Names) -> Iterator[str]:
    """Yield a warning if labelled cells of `gate` or `val` share pixels of their context with training windows; log their number."""
    labelled, counts = classes != UNRESOLVED, []
    for subset in ("gate", "val"):
        shared = windows.share_pixels(labelled & (subsets == subset), labelled & (subsets == "train"))
        counts.append(f"{shared.sum()} of {len(shared)} {subset} cells ({100 * shared.mean():.1f} %)" if shared.any() else "")
        logger.info("%s: %d of %d labelled cells share pixels of their context with training windows", subset, shared.sum(), len(shared))
    if any(counts):
        yield f"{' and '.join(filter(None, counts))} share pixels of their context with training windows"


def blocks(xy_um: Floats, block_um: float) -> list[str]:
    """Return the name of the square block of `block_um` that holds each cell, (N,), as row-column."""
    index = np.floor((xy_um - xy_um.min(axis=0)) / block_um).astype(int)
    return [f"{row}-{column}" for column, row in index]


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
