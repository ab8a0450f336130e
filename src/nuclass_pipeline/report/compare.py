"""One page that compares two runs: scores and their differences, classes, agreement, run files, and the warnings of both."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nuclass_pipeline.io import whole_file
from nuclass_pipeline.report.template import render
from nuclass_pipeline.schemas import MEAN
from nuclass_pipeline.tables.heldout import BEST
from nuclass_pipeline.tables.layout import printed, title

_MAIN = "gate"
_MISSED = 0.05
"""Share of 95 % intervals that leave out the true value."""
_CONTENTS = (
    ("differences", "Differences"),
    ("scores", "Scores"),
    ("classes", "F1 per class"),
    ("agreement", "Agreement"),
    ("cells", "Cells compared"),
    ("settings", "Run files"),
    ("warnings", "Warnings of both"),
)


def build_comparison(
    *,
    names: tuple[str, str],
    scores: pd.DataFrame,
    classes: pd.DataFrame,
    agreement: pd.DataFrame,
    cells: pd.DataFrame,
    notes: Sequence[str],
    settings: Sequence[Mapping[str, str]],
    warnings: Sequence[Sequence[Mapping[str, Any]] | None],
    page: Path,
) -> None:
    """Write the page, which needs no other file and no network.

    Parameters
    ----------
    names
        Names of the two runs.
    scores, classes, agreement, cells, notes
        Fields of a comparison of their held-out slides; differences are the second run minus the first.
    settings
        Rows of key, and the value of each run, where they differ.
    warnings
        For each run its warnings by slide, as `group_warnings` returns them; None for a run that keeps none.
    page
        HTML file to write.
    """
    models = list(dict.fromkeys(scores["model"]))
    values = {
        "names": names,
        "notes": notes,
        "mean": MEAN,
        "headlines": _headlines(scores),
        "scores": [{"name": title(name), "lower": BEST[name] == "min", "rows": _rows(part)} for name, part in _by(scores, "metric")],
        "classes": [{"name": model, "rows": _class_rows(part)} for model, part in _by(classes, "model")],
        "counted": {"scores": count_differing(scores), "classes": count_differing(classes)},
        "agreement": agreement.to_dict("records"),
        "cells": cells.to_dict("records"),
        "settings": settings,
        "warnings": [{"name": name, "groups": groups} for name, groups in zip(names, warnings, strict=True)],
        "main": _MAIN if _MAIN in models else models[0],
    }
    contents = [{"id": name, "name": text, "parts": ()} for name, text in _CONTENTS]
    text = render("compare.html", heading=f"{names[1]} compared with {names[0]}", contents=contents, **values)
    with whole_file(page) as partial:
        partial.write_text(text, encoding="utf-8")


def _by(frame: pd.DataFrame, column: str) -> list[tuple[str, pd.DataFrame]]:
    return [(str(name), part) for name, part in frame.groupby(column, sort=False)]


def signed(value: float) -> str:
    """Return a difference with its sign."""
    # Zero added, because a small negative number is rounded to −0.
    return "–" if np.isnan(value) else f"{round(value, 3) + 0.0:+.3f}".replace("-", "−")


def differs(row: Any) -> bool:
    """Return whether the interval of a difference leaves out zero; without an interval it does not."""
    return bool(row.difference_low > 0 or row.difference_high < 0)


def count_differing(frame: pd.DataFrame) -> str:
    """Return how many intervals leave out zero, and how many would by chance, because each is a test of its own."""
    intervals = frame[["difference_low", "difference_high"]].dropna()
    found = sum(map(differs, intervals.itertuples()))
    chance = f"{_MISSED * len(intervals):.1f} would by chance if the runs did not differ"
    return f"{found:,} of {len(intervals):,} intervals leave out zero; {chance}. No interval is corrected for their number."


def _difference(row: Any) -> dict[str, Any]:
    known = np.isfinite([row.difference_low, row.difference_high]).all()
    interval = f"{signed(row.difference_low)} to {signed(row.difference_high)}" if known else ""
    return {"difference": signed(row.difference), "difference_interval": interval, "differs": differs(row)}


def _value(row: Any, side: str) -> dict[str, str]:
    value, _, interval = printed(*(getattr(row, f"{side}{end}") for end in ("", "_low", "_high"))).partition(" (")
    return {side: value, f"{side}_interval": interval.rstrip(")")}


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    # One scale for all rows of a score, because their pictures are compared.
    scale = np.nanmax(abs(frame[["difference", "difference_low", "difference_high"]].to_numpy())) or 1.0
    return [
        {"slide": row.slide, "model": row.model, "cells": row.cells, "picture": _picture(row, scale)}
        | _value(row, "first")
        | _value(row, "second")
        | _difference(row)
        for row in frame.itertuples()
    ]


def _picture(row: Any, scale: float) -> dict[str, float]:
    """Return where a difference and its interval lie in a picture from 0 to 100, with zero at 50."""
    ends = {"low": row.difference_low, "at": row.difference, "high": row.difference_high}
    return {name: 50 + 45 * (value if np.isfinite(value) else row.difference) / scale for name, value in ends.items()}


def _class_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    order = frame.sort_values("difference", key=abs, ascending=False)
    shown = [{"slide": row.slide, "name": row.label, "cells": row.cells, "value": row.difference} for row in order.itertuples()]
    scores = [{"first": row.first, "second": row.second} | _difference(row) for row in order.itertuples()]
    return [one | other for one, other in zip(shown, scores, strict=True)]


def _headlines(scores: pd.DataFrame) -> list[dict[str, Any]]:
    """Return each score of the gate over all slides, or on the only one."""
    place = MEAN if MEAN in set(scores["slide"]) else scores["slide"].iloc[0]
    model = _MAIN if _MAIN in set(scores["model"]) else scores["model"].iloc[0]
    rows = scores[(scores["slide"] == place) & (scores["model"] == model)]
    return [
        {"name": title(str(row.metric)), "model": model, "slide": place} | _value(row, "first") | _value(row, "second") | _difference(row)
        for row in rows.itertuples()
    ]
