from pathlib import Path

import pandas as pd
from rich.console import Console

from nuclass_pipeline.tables.summary import summary_lines, warning_lines
from tests.unit.tables import fakes


def test_summary_shows_every_model_on_every_slide(tmp_path: Path) -> None:
    console = Console(width=80, record=True, file=(tmp_path / "out").open("w"))
    console.print(summary_lines(fakes.write_heldout(tmp_path / "h.parquet")))
    text = console.export_text()
    assert text.count("gate") == 4
    assert "0.700 (0.600–0.800)" in text
    assert "Brier" not in text


def test_warnings_are_lines() -> None:
    rows = pd.DataFrame([["lung-1", "split", "few cells"], ["", "manifest", "changed [b]tree[/b]"]], columns=["slide", "stage", "warning"])
    assert warning_lines(rows) == ["warning: lung-1, split: few cells", "warning: manifest: changed [b]tree[/b]"]
    assert warning_lines(rows[:0]) == ["No warnings."]
