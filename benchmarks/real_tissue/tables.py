"""The tables of the benchmark: on the screen, as TSV, and as Markdown for docs/performance.md."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

EMPTY = "–"
WIDTH = 130
"""Columns of the screen that the tables take, also where they are written to a file."""
WHOLE_FROM = 10
"""Costs from here on are shown without decimals."""
HEADER: tuple[str, ...] = ("method", "macro-F1 [95 %]", "accuracy [95 %]", "Δ macro-F1 to local [95 %]")


def print_table(title: str, rows: list[tuple[str, ...]], header: tuple[str, ...]) -> None:
    """Print a table."""
    table = Table(*header, title=title)
    for row in rows:
        table.add_row(*row)
    Console(markup=False, width=WIDTH).print(table)


def score_rows(scores: pd.DataFrame) -> list[tuple[str, ...]]:
    """Return the scores of `compare` as text, a row for each method."""
    names = ("macro_f1", "accuracy", "difference")
    return [
        (str(row["method"]), *(_with_interval(row, name, "+" if name == "difference" else "") for name in names))
        for _, row in scores.iterrows()
    ]


def _with_interval(row: "pd.Series[float]", name: str, sign: str) -> str:
    if pd.isna(row[name]):
        return EMPTY
    value, low, high = (f"{row[column]:{sign}.3f}" for column in (name, f"{name}_low", f"{name}_high"))
    return f"{value} [{low}, {high}]"


def cost_rows(costs: pd.DataFrame) -> list[tuple[str, ...]]:
    """Return the costs of `read_costs` as text."""
    shown = [f"{value:,.0f}" if value >= WHOLE_FROM else f"{value:.1f}" for value in costs["value"]]
    return list(zip(costs["quantity"], shown, costs["unit"], strict=True))


def write_markdown(path: Path, parts: list[tuple[str, list[tuple[str, ...]], tuple[str, ...]]]) -> None:
    """Write tables with their titles as Markdown."""
    path.write_text("\n".join(line for part in parts for line in _markdown(*part)) + "\n")


def _markdown(title: str, rows: list[tuple[str, ...]], header: tuple[str, ...]) -> Iterator[str]:
    yield from (f"**{title}**", "")
    yield from (f"| {' | '.join(row)} |" for row in (header, ("---",) * len(header), *rows))
    yield ""
