"""The slides of the study."""

from pathlib import Path

import pandas as pd

from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import COHORT
from nuclass_pipeline.vocabulary import UNRESOLVED

_PARTS = ("train", "gate", "val", "guard", "heldout")


def build(*, cohort: Path) -> pd.DataFrame:
    """Return one row per slide: cells, labelled cells, coverage, classes, and cells in each part of the split.

    Parameters
    ----------
    cohort
        Cohort table.
    """
    rows = read_table(cohort, COHORT)
    whole = rows[rows["part"] == "all"]
    labelled = whole[whole["label"] != UNRESOLVED].groupby("slide")["cells"].agg(labelled="sum", classes="size")
    table = whole.groupby("slide", sort=False).agg(organ=("organ", "first"), role=("role", "first"), cells=("cells", "sum"))
    table = table.join(labelled).fillna({"labelled": 0, "classes": 0}).astype({"labelled": int, "classes": int})
    table.insert(4, "coverage", table["labelled"] / table["cells"])
    parts = rows[rows["part"] != "all"].pivot_table(index="slide", columns="part", values="cells", aggfunc="sum", fill_value=0)
    parts = parts.reindex(columns=[name for name in _PARTS if name in parts])
    return table.join(parts).fillna(0).astype(dict.fromkeys(parts.columns, int)).reset_index()
