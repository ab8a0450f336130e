from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from nuclass_pipeline.cli.results import summary
from nuclass_pipeline.io import write_table
from nuclass_pipeline.schemas import WARNINGS, empty_labels
from nuclass_pipeline.tables.summary import label_lines, summary_lines, warning_lines, warnings_in_short
from tests.unit.tables import fakes


def test_summary_shows_every_model_on_every_slide(tmp_path: Path) -> None:
    console = Console(width=80, record=True, file=(tmp_path / "out").open("w"), markup=False)
    console.print(summary_lines(fakes.write_heldout(tmp_path / "h.parquet")))
    text = console.export_text()
    assert text.count("gate") == 4
    assert "0.700 (0.600–0.800)" in text
    assert "Brier" not in text
    assert "[bold]" not in text


def test_labels_are_listed_by_share_and_the_others_by_reason(tmp_path: Path) -> None:
    labels = ["T_Cell"] * 3 + ["B_Cell"] * 2996 + ["Unresolved"]
    frame = empty_labels([f"c{row}" for row in range(3000)]).assign(label=labels, cluster=["0", "1", None] * 1000)
    frame["reason"] = [None] * 2999 + ["weak support"]
    frame.to_parquet(tmp_path / "labels.parquet")
    console = Console(width=80, record=True, file=(tmp_path / "out").open("w"))
    console.print(label_lines(tmp_path / "labels.parquet"))
    assert [line.split() for line in console.export_text().splitlines()] == [
        ["3,000", "cells,", "2", "clusters"],
        ["label", "cells", "share"],
        ["B_Cell", "2,996", "99.9", "%"],
        ["T_Cell", "3", "0.1", "%"],
        ["Unresolved", "1", "<", "0.1", "%"],
        ["weak", "support", "1", "<", "0.1", "%"],
    ]


def test_a_run_that_only_labels_is_summed_up_by_its_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("slides/mine", "metrics"):
        (tmp_path / name).mkdir(parents=True)
    empty_labels(["a", "b"]).assign(label=["T_Cell", "Unresolved"]).to_parquet(tmp_path / "slides/mine/labels.parquet")
    warning = pd.DataFrame([["mine", "labels", "few"]], columns=["slide", "stage", "warning"])
    write_table(warning, tmp_path / "metrics/warnings.parquet", WARNINGS)
    (tmp_path / "config.yaml").write_text("study: {train: [], heldout: [], predict: [], label: [mine]}\n")
    summary(tmp_path)
    screen = capsys.readouterr().out
    assert screen.splitlines()[0] == "mine"
    assert "2 cells, 0 clusters" in screen
    assert "warning: mine, labels: few" in screen


def test_warnings_are_lines() -> None:
    rows = pd.DataFrame([["lung-1", "split", "few cells"], ["", "manifest", "changed [b]tree[/b]"]], columns=["slide", "stage", "warning"])
    assert warning_lines(rows) == ["warning: lung-1, split: few cells", "warning: manifest: changed [b]tree[/b]"]
    assert warning_lines(rows[:0]) == ["No warnings."]


def test_warnings_in_short_are_counted_and_cut() -> None:
    rows = pd.DataFrame([["lung-1", "split", "few cells " * 40]] * 5, columns=["slide", "stage", "warning"])
    lines = warnings_in_short(rows, 2)
    assert lines[0] == "5 warnings, of which 2 are below:"
    assert [len(line) for line in lines[1:]] == [140 - len("warning: ") + 2] * 2
    assert warnings_in_short(rows[:1].assign(warning="few"), 2) == ["1 warning:", "  lung-1, split: few"]
    assert warnings_in_short(rows[:0], 2) == ["No warnings."]
