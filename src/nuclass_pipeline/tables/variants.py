"""Variants of the run beside its base: scores, and paired differences."""

from pathlib import Path

import pandas as pd

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import MEAN, VARIANTS
from nuclass_pipeline.tables import heldout
from nuclass_pipeline.tables.layout import Extreme

BEST: dict[str, Extreme] = {name: heldout.BEST[name] for name in ("macro_f1", "accuracy", "ece")}
"""Score → which value of a model is best."""
GROUPED_BY = "model"
_ENDS = ("", "_low", "_high")


def build(*, variants: Path) -> pd.DataFrame:
    """Return one row per model and variant: each score, and after it `…_change`, variant minus base, both with 95 % intervals.

    Parameters
    ----------
    variants
        Table of the variants. The mean of the held-out slides is shown, or the only one.

    Raises
    ------
    UserError
        If the table is empty.
    """
    rows = read_table(variants, VARIANTS)
    shown = rows[rows["slide"] == (MEAN if MEAN in set(rows["slide"]) else rows["slide"].iloc[0])] if len(rows) else rows
    if shown.empty:
        raise UserError(variants, "variant", "the table has no score", "Remove it and run again.")
    keys = pd.MultiIndex.from_product([dict.fromkeys(shown[name]) for name in ("model", "variant")], names=["model", "variant"])
    table = pd.DataFrame(index=keys)
    for metric in BEST:
        scores = shown[shown["metric"] == metric].set_index(["model", "variant"])
        for column, name in ((metric, "value"), (f"{metric}_change", "difference")):
            table[[f"{column}{end}" for end in _ENDS]] = scores[[f"{name}{end}" for end in _ENDS]]
    return table.reset_index()
