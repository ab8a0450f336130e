"""Slides of the study: cells, labels, coverage, and subsets of the split."""

from pathlib import Path

import pandas as pd

from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import ALL, COHORT
from nuclass_pipeline.vocabulary import UNRESOLVED

_SUBSETS = ("train", "gate", "val", "buffer", "heldout", "excluded")


def build(*, cohort: Path) -> pd.DataFrame:
    """Return one row per slide.

    Parameters
    ----------
    cohort
        Cohort table.

    Returns
    -------
    DataFrame
        Columns slide, organ, role, cells, labelled (cells with a label), coverage (their share) and classes (with a cell). A further
        column has the cells of each subset of the split that occurs.
    """
    rows = read_table(cohort, COHORT)
    whole = rows[rows["subset"] == ALL]
    labelled = whole[whole["label"] != UNRESOLVED].groupby("slide")["cells"].agg(labelled="sum", classes="size")
    table = whole.groupby("slide", sort=False).agg(organ=("organ", "first"), role=("role", "first"), cells=("cells", "sum"))
    table = table.join(labelled).fillna({"labelled": 0, "classes": 0}).astype({"labelled": int, "classes": int})
    table.insert(4, "coverage", table["labelled"] / table["cells"])
    # Only the subsets that occur, because a study without training slides should not print columns of zeros.
    subsets = rows[rows["subset"] != ALL].pivot_table(index="slide", columns="subset", values="cells", aggfunc="sum", fill_value=0)
    subsets = subsets.reindex(columns=[name for name in _SUBSETS if name in subsets])
    return table.join(subsets).fillna(0).astype(dict.fromkeys(subsets.columns, int)).reset_index()
