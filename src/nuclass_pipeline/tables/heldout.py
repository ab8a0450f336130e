"""Scores of the three models on the held-out slides."""

from pathlib import Path

import pandas as pd

from nuclass_pipeline.config.models import MODELS
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import ALL, JOINED, METRICS
from nuclass_pipeline.tables.layout import Extreme

SCORES = {
    "macro_f1": ("macro_f1", "raw"),
    "accuracy": ("accuracy", "raw"),
    "weighted_f1": ("weighted_f1", "raw"),
    "ece_raw": ("ece", "raw"),
    "ece": ("ece", "calibrated"),
    "brier": ("brier", "calibrated"),
}
"""Column → metric, and the probabilities from which it is computed."""
UNSEEN = "unseen_cells"
BEST: dict[str, Extreme] = {"macro_f1": "max", "accuracy": "max", "weighted_f1": "max", "ece": "min", "brier": "min"}
"""Score → which value of a slide is best."""
GROUPED_BY = "slide"


def build(*, heldout: Path) -> pd.DataFrame:
    """Return one row per slide and model, with the bounds of 95 % intervals in the columns `…_low` and `…_high`.

    `cells` are all labelled cells; `unseen_cells` are those among them whose class the model lacks, which are errors.

    Parameters
    ----------
    heldout
        Metrics of the held-out slides. Rows of the open label set are used, and averaged over seeds.

    Raises
    ------
    UserError
        If the metrics have no score of the three models.
    """
    metrics = read_table(heldout, METRICS)
    rows = metrics[(metrics["label"] == ALL) & (metrics["label_set"] == "open") & metrics["model"].isin(MODELS)]
    scores = rows.groupby(["metric", "probabilities", "slide", "model"])[["value", "ci_low", "ci_high"]].mean()
    if not set(SCORES.values()) <= set(zip(rows["metric"], rows["probabilities"], strict=True)):
        found = ", ".join(sorted(set(metrics["model"]))) or "none"
        raise UserError(heldout, "model", f"no score of {', '.join(MODELS)}; found {found}", "Remove the file and run again.")
    # `mean` and `pooled` last, because they summarize the slides above them.
    whole = rows[rows["metric"] == "accuracy"].groupby(["slide", "model"])
    names = list(dict.fromkeys(rows["slide"]))
    order = [*(name for name in names if name not in JOINED), *(name for name in JOINED if name in names)]
    keys = pd.MultiIndex.from_product([order, MODELS], names=["slide", "model"])
    table = pd.DataFrame({"cells": whole["n_cells"].first(), UNSEEN: _unseen(rows)}).reindex(keys).dropna(subset="cells")
    table = table.fillna(0).astype(int)
    for column, metric in SCORES.items():
        table[[column, f"{column}_low", f"{column}_high"]] = scores.xs(metric)
    return table.reset_index()


def _unseen(rows: pd.DataFrame) -> "pd.Series[float]":
    """Return the cells whose class the model lacks, by slide and model; where slides are joined, their sum."""
    counts = rows[rows["metric"] == UNSEEN].groupby(["slide", "model"])["value"].mean()
    sums = counts.groupby("model").sum()
    joined = pd.concat(dict.fromkeys(JOINED, sums), names=["slide"])
    both: pd.Series[float] = pd.concat([counts, joined])
    return both
