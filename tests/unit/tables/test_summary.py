from pathlib import Path

from rich.console import Console

from nuclass_pipeline.tables.summary import summary_lines
from tests.unit.tables import fakes


def test_summary_shows_every_model_on_every_slide(tmp_path: Path) -> None:
    console = Console(width=80, record=True, file=(tmp_path / "out").open("w"))
    console.print(summary_lines(fakes.write_heldout(tmp_path / "h.parquet")))
    text = console.export_text()
    assert text.count("gate") == 4
    assert "0.700 (0.600–0.800)" in text
    assert "Brier" not in text
