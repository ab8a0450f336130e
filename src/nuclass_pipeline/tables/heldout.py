"""Scores of the three models on the held-out slides."""

from pathlib import Path

import pandas as pd

from nuclass_pipeline.config.models import MODELS
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import METRICS
from nuclass_pipeline.tables.layout import Extreme

SCORES = {"macro_f1": "raw", "accuracy": "raw", "weighted_f1": "raw", "ece": "calibrated", "brier": "calibrated"}
"""Score → variant of the probabilities from which it is computed."""
BEST: dict[str, Extreme] = {"macro_f1": "max", "accuracy": "max", "weighted_f1": "max", "ece": "min", "brier": "min"}
"""Score → which value of a slide is best."""
GROUPED_BY = "slide"
_JOINED = ("mean", "pooled")


def build(*, heldout: Path) -> pd.DataFrame:
    """Return one row per slide and model, with the bounds of 95 % intervals in the columns `…_low` and `…_high`.

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
    rows = metrics[(metrics["label"] == "all") & (metrics["label_set"] == "open") & metrics["model"].isin(MODELS)]
    rows = rows[rows["variant"] == rows["metric"].map(SCORES)]
    if rows.empty:
        found = ", ".join(sorted(set(metrics["model"]))) or "none"
        raise UserError(heldout, "model", f"no score of {', '.join(MODELS)}; found {found}", "Remove the file and run again.")
    # `mean` and `pooled` last, because they summarize the slides above them.
    names = list(dict.fromkeys(rows["slide"]))
    order = [*(name for name in names if name not in _JOINED), *(name for name in _JOINED if name in names)]
    keys = pd.MultiIndex.from_product([order, MODELS], names=["slide", "model"])
    scores = rows.groupby(["metric", "slide", "model"])[["value", "ci_low", "ci_high"]].mean()
    table = pd.DataFrame({"cells": rows.groupby(["slide", "model"])["n_cells"].first()}).reindex(keys).dropna().astype(int)
    for metric in SCORES:
        table[[metric, f"{metric}_low", f"{metric}_high"]] = scores.xs(metric)
    return table.reset_index()
