"""Variants of a run compared with its base: paired differences on the cells that both scored."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nuclass_pipeline.config.evaluation import EvaluationConfig
from nuclass_pipeline.evaluate.two_runs import COMPARED, Comparison, ScoredRun, compare_runs, read_scores
from nuclass_pipeline.io import write_table
from nuclass_pipeline.layout import BASE
from nuclass_pipeline.schemas import ALL, MEAN, VARIANTS

_RENAMED = {"second": "value", "second_low": "value_low", "second_high": "value_high", "cells": "n_cells"}


def summarize_variants(
    *,
    heldout: Sequence[Path],
    predictions: Sequence[Path],
    results: str,
    names: Sequence[str],
    notes: Sequence[str],
    run: str,
    config: EvaluationConfig,
    variants: Path,
) -> None:
    """Compare each variant with the base on the held-out slides, as `nuclass compare` compares two runs.

    Parameters
    ----------
    heldout, predictions
        Scores and predictions of all variants, which lie in `results` as layout.py says.
    results
        Folder of the results of the run.
    names
        Variants beside the base.
    notes
        What to know of the variants, for the warnings of the table.
    run
        Name of the run.
    config
        Resamples and seed of the bootstrap, and bins of the calibration error.
    variants
        Table `VARIANTS`. Its warnings are `notes`, and the cells that are not compared.

    Raises
    ------
    UserError
        If a file is missing or broken, or a variant has no scored cell in common with the base.
    """
    base = read_scores(Path(results), BASE)
    found = {name: compare_runs(base, read_scores(Path(results), name, name), config) for name in names}
    tables = [_base_rows(base), *(_rows(comparison).assign(variant=name) for name, comparison in found.items())]
    frame = pd.concat(tables, ignore_index=True).assign(run=run)
    left_out = [text for name, comparison in found.items() for text in _left_out(name, comparison)]
    write_table(frame[[column.name for column in VARIANTS.columns]], variants, VARIANTS, [*notes, *left_out])


def _rows(comparison: Comparison) -> pd.DataFrame:
    return comparison.scores.drop(columns=["first", "first_low", "first_high"]).rename(columns=_RENAMED).dropna(subset="value")


def _base_rows(base: ScoredRun) -> pd.DataFrame:
    rows = base.metrics[base.metrics["label"].eq(ALL) & base.metrics["label_set"].eq("open")]
    # The mean only where there are several slides, as of the variants.
    shown = [*base.slides, MEAN] if len(base.slides) > 1 else base.slides
    rows = rows[rows["slide"].isin(shown) & rows["probabilities"].eq(rows["metric"].map(COMPARED))]
    means = rows.groupby(["slide", "model", "metric"], sort=False)[["value", "ci_low", "ci_high", "n_cells"]].mean().reset_index()
    differences = dict.fromkeys(("difference", "difference_low", "difference_high"), np.nan)
    renamed = means.rename(columns={"ci_low": "value_low", "ci_high": "value_high"}).astype({"n_cells": int})
    return renamed.assign(variant=BASE, **differences)


def _left_out(name: str, comparison: Comparison) -> Iterator[str]:
    for row in comparison.cells.to_dict("records"):
        if not row["common"]:
            yield f"{name}: no labelled cell of {row['slide']} is scored in both, so there is no mean over the slides"
        alone = row["only_first"] + row["only_second"]
        if alone or row["other_label"]:
            counts = f"{row['other_label']:,} have another label, {alone:,} are scored in one of the two only"
            yield f"{name}: labelled cells of {row['slide']} that are not compared with the base: {counts}"
