"""Scores as a table in the terminal."""

from pathlib import Path

from rich.table import Table

from nuclass_pipeline.tables import heldout as scores
from nuclass_pipeline.tables.layout import lay_out

# Without the interval of the ECE, because it would not fit into 80 columns.
SHOWN = ("macro_f1", "macro_f1_low", "macro_f1_high", "accuracy", "accuracy_low", "accuracy_high", "ece")


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
