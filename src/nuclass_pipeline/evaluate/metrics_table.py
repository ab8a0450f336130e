"""Rows of the metrics table, from scores of the data and of their resamples."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.evaluate.bootstrap import interval
from nuclass_pipeline.io import write_table
from nuclass_pipeline.layout import BASE
from nuclass_pipeline.schemas import METRICS


def tidy(values: Floats, labels: Sequence[str], metrics: Sequence[str], n: Sequence[int] | Floats, **names: str | int) -> pd.DataFrame:
    """Return one row of the metrics table per column of `values`, except where the estimate is NaN.

    Parameters
    ----------
    values
        (1 + times, columns); row 0 is the estimate, the others its resamples.
    labels, metrics, n
        (columns,) class or `all`, name of the score, and number of cells.
    **names
        Values of other columns, the same in all rows: model, probabilities, seed, slide, organ, label_set.
    """
    low, high = interval(values)
    frame = pd.DataFrame(
        {"label": labels, "metric": metrics, "value": values[0], "ci_low": low, "ci_high": high, "n_cells": np.asarray(n, np.int64)}
    )
    return frame[frame["value"].notna()].assign(**names)


def write_metrics(tables: Iterable[pd.DataFrame], path: Path | str, run: str, warnings: Sequence[str] = (), *, variant: str = BASE) -> None:
    """Write rows of `tidy` as one metrics table of this run and variant, with its warnings."""
    frame = pd.concat(list(tables), ignore_index=True).assign(run=run, variant=variant)
    write_table(frame[[column.name for column in METRICS.columns]], path, METRICS, warnings)
