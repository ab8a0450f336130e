"""Scores of the page: the four headlines, and F1 of every class on every held-out slide."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import ALL, COHORT, JOINED, MEAN, METRICS, POOLED
from nuclass_pipeline.tables.layout import printed, title
from nuclass_pipeline.vocabulary import CLASSES, UNRESOLVED

HEADLINES = ("macro_f1", "accuracy", "ece", "brier")


def make_headlines(table: pd.DataFrame) -> list[dict[str, str]]:
    """Return the scores of the gate, mean of the held-out slides, each with its interval and those of the other models.

    Parameters
    ----------
    table
        Result of `tables.heldout.build`.
    """
    mean = table[table["slide"] == MEAN].set_index("model")
    return [_headline(mean, metric) for metric in HEADLINES]


def _headline(mean: pd.DataFrame, metric: str) -> dict[str, str]:
    values = {model: row.tolist() for model, row in mean[[metric, f"{metric}_low", f"{metric}_high"]].iterrows()}
    value, _, interval = printed(*values["gate"]).partition(" ")
    rivals = ", ".join(f"{model} {printed(numbers[0])}" for model, numbers in values.items() if model != "gate")
    before = printed(mean.loc["gate", f"{metric}_raw"]) if f"{metric}_raw" in mean else ""
    return {"name": title(metric), "value": value, "interval": interval.strip("()"), "rivals": rivals, "before": before}


def score_table(heldout: Path, cohort: Path) -> dict[str, Any]:
    """Return F1 of every class: raw, open label set, averaged over seeds.

    Parameters
    ----------
    heldout
        Metrics of the held-out slides.
    cohort
        Cells by slide, subset and class.

    Returns
    -------
    The `models`, the `slides` with `pooled` before several, and `rows`. A row has its `label`, and the `trained` cells, None where a
    model lacks the class. Per slide it has the `cells` and the `scores` of the models, None where the slide has no cell of the class.
    """
    metrics = read_table(heldout, METRICS)
    rows = metrics[(metrics["probabilities"] == "raw") & (metrics["label_set"] == "open") & (metrics["label"] != ALL)]
    scores = rows[rows["metric"] == "f1"]
    values = scores.groupby(["label", "slide", "model"])["value"].mean()
    cells = scores.groupby(["label", "slide"])["n_cells"].first()
    models = list(dict.fromkeys(scores["model"]))
    single = list(dict.fromkeys(scores.loc[~scores["slide"].isin(JOINED), "slide"]))
    slides = [POOLED, *single] if len(single) > 1 else single
    trained, lacking = _training_cells(cohort), set(rows.loc[rows["metric"] == "unseen_cells", "label"])
    labels, found = set(scores["label"]) | set(trained), list(dict.fromkeys(rows["label"]))
    return {
        "models": models,
        "slides": slides,
        "rows": [
            {
                "label": label,
                "trained": None if label in lacking or not trained.get(label) else trained[label],
                "slides": [
                    {
                        "cells": int(cells.get((label, slide), 0)),
                        "scores": [_known(values.get((label, slide, model))) for model in models],
                    }
                    for slide in slides
                ],
            }
            for label in sorted(labels, key=lambda label: _order(label, found))
        ],
    }


def _training_cells(cohort: Path) -> dict[str, int]:
    """Return the cells of each class in the subset `train` of the split."""
    table = read_table(cohort, COHORT)
    counts = table[(table["subset"] == "train") & (table["label"] != UNRESOLVED)].groupby("label")["cells"].sum()
    return {str(label): int(count) for label, count in counts.items()}


def _known(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)


def _order(label: str, found: Sequence[str]) -> tuple[int, int, str]:
    """Return a sort key: classes of the vocabulary in its order, then the study's own, in that of the models."""
    known = CLASSES.index(label) if label in CLASSES else len(CLASSES)
    return known, found.index(label) if label in found else len(found), label
