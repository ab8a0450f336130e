from pathlib import Path

import pandas as pd
import pytest

from nuclass_pipeline.tables.write import write_table_files
from tests.unit.tables import fakes


def test_files(tmp_path: Path) -> None:
    outputs = [tmp_path / "heldout.tsv", tmp_path / "heldout.tex"]
    write_table_files(name="heldout", inputs={"heldout": fakes.write_heldout(tmp_path / "h.parquet")}, outputs=outputs)
    assert pd.read_csv(outputs[0], sep="\t").shape == (12, 22)
    tex = outputs[1].read_text()
    rows = [line for line in tex.splitlines() if "&" in line]
    assert rows[0] == r"slide & model & cells & not in model & macro-F1 & accuracy & weighted F1 & ECE, raw & ECE & Brier \\"
    assert rows[3].startswith(r" & gate & 1,234 & 83 & \textbf{0.700} (0.600--0.800) & \textbf{0.800}")
    # Equal ECE as printed: both are bold.
    assert [r"\textbf{0.210}" in row for row in rows[1:4]] == [True, False, True]
    assert tex.startswith(r"\begin{tabular}{llrrrrrrrr}")


def test_latex_escapes(tmp_path: Path) -> None:
    write_table_files(name="cohort", inputs={"cohort": fakes.write_cohort(tmp_path / "c.parquet")}, outputs=[tmp_path / "c.tex"])
    tex = (tmp_path / "c.tex").read_text()
    assert "z-1 & lung & train & 100 & 80 & 0.800 & 2 & 90 & 5 & 0" in tex
    assert "1,500" in tex


def test_a_table_without_a_module_is_refused() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'nuclass_pipeline\.tables\.nonsense'"):
        write_table_files(name="nonsense", inputs={}, outputs=[])
