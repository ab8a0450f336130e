"""Rows of the metrics table from scores of the data and their resamples."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.evaluate.bootstrap import interval
from nuclass_pipeline.io import write_table
from nuclass_pipeline.schemas import METRICS

ALL = "all"
MEAN = "mean"
POOLED = "pooled"


def tidy(values: Floats, labels: Sequence[str], metrics: Sequence[str], n: Sequence[int] | Floats, **names: str | int) -> pd.DataFrame:
    """Make one row of the metrics table per column of `values`; a column whose estimate is NaN makes none.

    Parameters
    ----------
    values
        (1 + times, columns); row 0 is the estimate, the others its resamples.
    labels, metrics, n
        (columns,) each.
    names
        The remaining columns: run, model, variant, seed, slide, organ, label_set.
    """
    low, high = interval(values)
    frame = pd.DataFrame(
        {"label": labels, "metric": metrics, "value": values[0], "ci_low": low, "ci_high": high, "n": np.asarray(n, np.int64)}
    )
    return frame[frame["value"].notna()].assign(**names)


def write_metrics(parts: Iterable[pd.DataFrame], path: Path | str, run: str) -> None:
    """Join rows and write them as a metrics table."""
    frame = pd.concat(list(parts), ignore_index=True).assign(run=run)
    write_table(frame[[column.name for column in METRICS.columns]], path, METRICS)
