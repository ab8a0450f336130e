"""Scores and warnings in the terminal."""

from pathlib import Path

import pandas as pd
from rich.table import Table

from nuclass_pipeline.tables import heldout as scores
from nuclass_pipeline.tables.layout import lay_out

# Without the interval of the ECE, because it would not fit into 80 columns.
SHOWN = ("macro_f1", "macro_f1_low", "macro_f1_high", "accuracy", "accuracy_low", "accuracy_high", "ece")


def places(warnings: pd.DataFrame) -> list[str]:
    """Return what each warning is about: its slide, where it has one, and the result that holds it."""
    return [f"{slide}, {stage}:" if slide else f"{stage}:" for slide, stage in zip(warnings["slide"], warnings["stage"], strict=True)]


def warning_lines(warnings: pd.DataFrame) -> list[str]:
    """Return one line per warning of a run, or one that says there is none."""
    lines = [f"warning: {about} {text}" for about, text in zip(places(warnings), warnings["warning"], strict=True)]
    return lines or ["No warnings."]


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
        table.add_row(*map(str, row), end_section=bool(ends))
    return table
