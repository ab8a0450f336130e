"""Printed form of tables: numbers rounded, with their intervals, and the best of each group marked."""

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import pandas as pd

from nuclass_pipeline.arrays import Booleans

Extreme = Literal["max", "min"]
_ENDS = ("_low", "_high")
TITLES = {
    "macro_f1": "macro-F1",
    "weighted_f1": "weighted F1",
    "ece": "ECE",
    "ece_raw": "ECE, raw",
    "unseen_cells": "not in model",
    "brier": "Brier",
    "macro_f1_change": "Δ macro-F1",
    "accuracy_change": "Δ accuracy",
    "ece_change": "Δ ECE",
    "val": "validation",
    "heldout": "held out",
    "buffer": "buffer",
    "peak_gb": "peak GB",
}


def title(column: str) -> str:
    """Return a column's heading."""
    return TITLES.get(column, column.replace("_", " "))


def printed(value: object, low: object = None, high: object = None) -> str:
    """Return the text of a field.

    Parameters
    ----------
    value
        A fraction (printed with three decimals), a count (with thousands separated) or a text.
    low, high
        Bounds of its interval, if it has one.
    """
    if isinstance(value, float | np.floating):
        if np.isnan(value):
            return "–"
        text = f"{value:.3f}"
        known = isinstance(low, float) and isinstance(high, float) and np.isfinite([low, high]).all()
        return f"{text} ({low:.3f}–{high:.3f})" if known else text
    return f"{value:,}" if isinstance(value, int | np.integer) else str(value)


def printed_columns(frame: pd.DataFrame) -> list[str]:
    """Return the columns that are not bounds of another column."""
    return [name for name in map(str, frame) if not any(name.endswith(end) and name.removesuffix(end) in frame for end in _ENDS)]


def lay_out(frame: pd.DataFrame, mark: Callable[[str, bool], str], best: Mapping[str, Extreme], group: str | None) -> pd.DataFrame:
    """Return `frame` as text, each interval in the column of its value.

    Parameters
    ----------
    frame
        Table; the bounds of column `x` are in `x_low` and `x_high`.
    mark
        Function of the text of a field, and of whether it is the best of its group, that returns what to print.
    best
        Column → whether its largest (`max`) or smallest (`min`) value is best.
    group
        Column whose equal values form a group; without it nothing is marked.
    """
    text = {}
    for name in printed_columns(frame):
        ends = [frame[f"{name}{end}"].tolist() if f"{name}{end}" in frame else [None] * len(frame) for end in _ENDS]
        leads = _leads(frame, name, best[name], group) if name in best and group else np.zeros(len(frame), bool)
        cells = zip(frame[name].tolist(), *ends, leads, strict=True)
        text[title(name)] = [mark(printed(value, low, high), bool(lead)) for value, low, high, lead in cells]
    return pd.DataFrame(text)


def _leads(frame: pd.DataFrame, name: str, which: Extreme, group: str) -> Booleans:
    # By the printed digits, because numbers that look equal must be marked alike.
    values = frame[name].round(3)
    return (values == values.groupby(frame[group]).transform(which)).to_numpy(bool)
