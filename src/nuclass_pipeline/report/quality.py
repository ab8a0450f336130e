"""Quality control of the page: one row per slide for comparison, and one card per slide with its pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nuclass_pipeline.io import read_table
from nuclass_pipeline.report.pictures import embed_preview
from nuclass_pipeline.schemas import QUALITY
from nuclass_pipeline.vocabulary import MIN_SEEN_SHARE

ROLES = {"train": "for training", "heldout": "held out", "predict": "classified only", "label": "labelled only"}


def tabulate_quality(quality: Path) -> list[dict[str, Any]]:
    """Return the rows of table `QUALITY`, each with its fields by name, and None where it has none."""
    table = read_table(quality, QUALITY)
    rows: Any = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{**row, "role": ROLES.get(row["role"], row["role"]), "flagged": _find_unusual(row)} for row in rows]


def _find_unusual(row: Mapping[str, Any]) -> set[str]:
    """Return the fields that are flagged."""
    unusual = {
        "verdict": row["verdict"] not in (None, "good"),
        "cell_types_seen": row["cell_types_seen"] is not None and row["cell_types_seen"] < MIN_SEEN_SHARE * row["cell_types"],
        "labelled": row["panel_genes"] is not None and 2 * row["labelled"] < row["cells"],
        "excluded": bool(row["excluded"]),
    }
    return {name for name, holds in unusual.items() if holds}


def preview(paths: Sequence[Path]) -> dict[str, str]:
    """Return slide → small picture for pictures in the folders of their slides."""
    return {Path(path).parent.name: embed_preview(Path(path)) for path in paths}


def summarize_cost(runtime: pd.DataFrame, trained: Sequence[str] = ()) -> dict[str, Any]:
    """Return the sums over all rules, and the rule with the largest job; empty without a benchmark file.

    Parameters
    ----------
    runtime
        Table `RUNTIME`.
    trained
        Models that were trained; those without a benchmark file of their training are `untimed`.
    """
    if runtime.empty:
        return {}
    rules = set(runtime["rule"])
    peaks = runtime.dropna(subset="peak_mb").sort_values("peak_mb", ascending=False)
    return {
        "jobs": int(runtime["jobs"].sum()),
        "hours": runtime["seconds"].sum() / 3600,
        "cpu_hours": runtime["cpu_seconds"].sum() / 3600,
        "peak_gb": peaks["peak_mb"].iloc[0] / 1024 if len(peaks) else None,
        "largest": peaks["rule"].iloc[0] if len(peaks) else "",
        "untimed": [model for model in trained if f"train_{model}" not in rules],
    }
