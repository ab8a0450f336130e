"""Scores and warnings in the terminal."""

from pathlib import Path

import pandas as pd
from rich.table import Table
from rich.text import Text

from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import LABELS
from nuclass_pipeline.tables import heldout as scores
from nuclass_pipeline.tables.layout import lay_out
from nuclass_pipeline.vocabulary import UNRESOLVED

# Without the interval of the ECE, because it would not fit into 80 columns.
SHOWN = ("macro_f1", "macro_f1_low", "macro_f1_high", "accuracy", "accuracy_low", "accuracy_high", "ece")

LINE = 140
"""Most letters of a warning in short."""


def places(warnings: pd.DataFrame) -> list[str]:
    """Return what each warning is about: its slide, where it has one, and the result that holds it."""
    return [f"{slide}, {stage}:" if slide else f"{stage}:" for slide, stage in zip(warnings["slide"], warnings["stage"], strict=True)]


def warning_lines(warnings: pd.DataFrame) -> list[str]:
    """Return one line per warning of a run, or one that says there is none."""
    lines = [f"warning: {about} {text}" for about, text in zip(places(warnings), warnings["warning"], strict=True)]
    return lines or ["No warnings."]


def warnings_in_short(warnings: pd.DataFrame, most: int) -> list[str]:
    """Return the number of warnings of a run, and at most `most` of them, each cut to a line."""
    lines = warning_lines(warnings)
    if not len(warnings):
        return lines
    more = f", of which {most} are below" if len(warnings) > most else ""
    cut = [line if len(line) <= LINE else f"{line[: LINE - 1]}…" for line in lines[:most]]
    return [f"{len(warnings)} warning{'s' if len(warnings) > 1 else ''}{more}:", *(f"  {line.removeprefix('warning: ')}" for line in cut)]


def label_lines(labels: Path) -> Table:
    """Return the cells of each class of a slide, the most frequent first, then those without a label by reason.

    Parameters
    ----------
    labels
        Table `LABELS`.
    """
    rows = read_table(labels, LABELS, ["label", "reason", "cluster"])
    shares = rows["label"][rows["label"] != UNRESOLVED].value_counts()
    reasons = rows["reason"][rows["label"] == UNRESOLVED].fillna("no reason given").value_counts()
    table = Table(title=f"{len(rows):,} cells, {rows['cluster'].nunique()} clusters", title_justify="left", box=None)
    table.add_column("label")
    for name in ("cells", "share"):
        table.add_column(name, justify="right")
    lines = [*shares.items(), (UNRESOLVED, reasons.sum()), *((f"  {reason}", cells) for reason, cells in reasons.items())]
    for label, cells in lines:
        share = 100 * cells / max(len(rows), 1)
        table.add_row(str(label), f"{cells:,}", "< 0.1 %" if 0 < share < 0.05 else f"{share:.1f} %")
    return table


def summary_lines(heldout: Path) -> Table:
    """Return macro-F1, accuracy and ECE (calibrated) of every model on every held-out slide, the best in bold.

    Parameters
    ----------
    heldout
        Metrics of the held-out slides.
    """
    frame = scores.build(heldout=heldout)[["slide", "model", *SHOWN]]
    text = lay_out(frame, lambda cell, best: f"[bold]{cell}[/bold]" if best else cell, scores.BEST, scores.GROUPED_BY)
    table = Table(title="Held-out slides, open label set")
    for name in text:
        table.add_column(str(name), justify="left" if name in ("slide", "model") else "right")
    last = frame["slide"] != frame["slide"].shift(-1)
    for row, ends in zip(text.itertuples(index=False), last, strict=True):
        table.add_row(*(Text.from_markup(str(cell)) for cell in row), end_section=bool(ends))
    return table
