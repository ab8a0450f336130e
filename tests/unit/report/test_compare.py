"""The page and the table of `nuclass compare`."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml

from nuclass_pipeline.cli.compare import compare
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import write_table
from nuclass_pipeline.report.compare import count_differing, signed
from nuclass_pipeline.schemas import WARNINGS
from tests.unit.evaluate.test_two_runs import CELLS, a_run, predictions
from tests.unit.report.reading import Page


def keep(folder, **keys):
    """Write a run file, a manifest and warnings as a run does."""
    evaluation = {"bootstrap": 100, "bins": 5, "seed": 0}
    (folder / ".run.json").write_text(json.dumps({"run": folder.name, "evaluation": evaluation} | keys))
    made = {"commit": folder.name * 3, "libraries": {"torch": "2"}, "inputs": {"a.tsv": "0" * 64}}
    (folder / "manifest.json").write_text(json.dumps(made))
    rows = [("s", "split", f"a warning of {folder.name}")]
    write_table(pd.DataFrame(rows, columns=["slide", "stage", "warning"]), folder / "metrics/warnings.parquet", WARNINGS)


@pytest.fixture
def runs(tmp_path):
    """Two runs with two slides and models; the second has another encoder, more errors on `t` and 50 cells fewer."""
    subset = np.where(np.arange(CELLS) < 50, "excluded", "heldout")
    a_run(tmp_path / "demo", range(100, 140), slides=("s", "t"), models=("local", "gate"))
    a_run(tmp_path / "other", range(100, 220), slides=("s", "t"), models=("local", "gate"), subset=subset)
    keep(tmp_path / "demo", local={"backbone": {"name": "tiny-resnet"}}, study={"train": ["r"]})
    keep(tmp_path / "other", local={"backbone": {"name": "<b>tiny</b>"}}, study={"train": ["r"]}, seeds=[0, 1])
    return tmp_path / "demo", tmp_path / "other"


def test_the_page_holds_scores_differences_agreement_cells_settings_and_warnings_of_both(runs, tmp_path, capsys):
    compare(*runs, tmp_path / "new/compare.html")
    html = (tmp_path / "new/compare.html").read_text()
    page = Page(html)
    assert page.tables["scores"][0] == ["slide", "model", "difference", "below zero · above zero", "demo", "other", "cells"]
    accuracy = [row for row in page.tables["scores"] if row[:2] == ["mean", "gate"]][1]
    # 40 wrong of 350 common cells in the first run, 120 in the second; the first scored 400.
    assert accuracy[2].startswith("−0.229 −0.")
    assert (accuracy[4][:5], accuracy[5][:5], accuracy[6]) == ("0.900", "0.657", "700")
    assert page.row("cells", "s") == ["s", "350", "50", "0", "0", "0"]
    assert page.row("agreement", "t", "gate") == ["t", "gate", "77.1 %", "65.7 %", "22.9 %", "0.0 %", "11.4 %"]
    assert page.tables["settings"][1:] == [
        ["local.backbone.name", "tiny-resnet", "<b>tiny</b>"],
        ["seeds", "–", "0, 1"],
        ["commit", "demodemodemo", "otherotherother"],
    ]
    assert "<b>tiny" not in html
    assert all(f"split: a warning of {name}" in page.texts["warnings"] for name in ("demo", "other"))
    # On a line of its own outside the box of warnings too, which only the report has.
    assert "\n.help { display: block;" in html
    printed = capsys.readouterr().out
    assert "−0.229 *" in printed
    for slide in ("s", "t"):
        note = f"{slide}: 350 labelled cells are scored in both runs, 50 only in demo, 0 only in other."
        assert f"note: {note}\n" in printed
        assert note in html
    assert "keys that differ: local.backbone.name, seeds, commit\n" in printed
    assert f"classes, agreement and warnings: {tmp_path}/new/compare.html" in printed


def test_a_difference_has_a_sign_and_is_bold_where_its_interval_leaves_out_zero(runs, tmp_path):
    assert [signed(value) for value in (0.1234, -0.1, -0.0001, float("nan"))] == ["+0.123", "−0.100", "+0.000", "–"]
    compare(*runs, tmp_path / "compare.html")
    html = (tmp_path / "compare.html").read_text()
    assert "<strong>−0.229</strong>" in html
    same = a_run(tmp_path / "same", range(100, 140), slides=("s", "t"), models=("local", "gate"))
    compare(runs[0], same.folder, tmp_path / "compare.html")
    html = (tmp_path / "compare.html").read_text()
    assert "<strong>+0.000</strong>" not in html
    assert "<strong>−" not in html
    assert "same keeps no run file, so the run files are not compared." in html
    assert "No key, library or input is known to differ." in html
    assert "Its results hold no list of warnings." in html


def test_intervals_that_leave_out_zero_are_counted_beside_those_expected_by_chance(runs, tmp_path, capsys):
    ends = {"difference_low": [0.1, -0.2, -0.1, 0.0, np.nan], "difference_high": [0.2, -0.1, 0.1, 0.1, np.nan]}
    line = "2 of 4 intervals leave out zero; 0.2 would by chance if the runs did not differ. No interval is corrected for their number."
    assert count_differing(pd.DataFrame(ends)) == line
    compare(*runs, tmp_path / "compare.html")
    html, printed = (tmp_path / "compare.html").read_text(), " ".join(capsys.readouterr().out.split())
    # 2 slides and their mean, 2 models, 3 scores; 2 slides, 2 models, 3 classes.
    number = printed.count(" *") - 1
    assert 0 < number < 18
    assert f"* its 95 % interval leaves out zero. {number} of 18 intervals leave out zero; 0.9 would by chance if" in printed
    assert f"{number} of 18 intervals leave out zero; 0.9 would by chance" in html
    assert "of 12 intervals leave out zero; 0.6 would by chance" in html


def test_keys_are_those_recorded_with_the_predictions_and_not_those_of_a_later_start(runs, tmp_path, capsys):
    recorded = json.loads((runs[0] / ".run.json").read_text())
    (runs[0] / "config.yaml").write_text(yaml.safe_dump(recorded))
    keep(runs[0], local={"backbone": {"name": "uni2-h"}}, evaluation={"bins": "many"})
    compare(*runs, tmp_path / "compare.html")
    html = (tmp_path / "compare.html").read_text()
    assert Page(html).row("settings", "local.backbone.name") == ["local.backbone.name", "tiny-resnet", "<b>tiny</b>"]
    assert "uni2-h" not in html
    (runs[0] / ".run.json").unlink()
    compare(*runs, tmp_path / "compare.html")
    assert (tmp_path / "compare.html").read_text() == html


def test_runs_of_one_name_are_told_apart_by_their_paths(runs, tmp_path, capsys):
    runs[1].rename(tmp_path / "x")
    (tmp_path / "y").mkdir()
    (tmp_path / "x").rename(tmp_path / "y/demo")
    compare(runs[0], tmp_path / "y/demo", tmp_path / "compare.html")
    assert f"{tmp_path}/y/demo compared with {tmp_path}/demo" in (tmp_path / "compare.html").read_text()


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("demo/../demo", "folder: both are one run. Name two runs. The table `variants` of a run compares its variants."),
        ("nothing", "nothing: folder: it holds no run. Name the folder of a run, such as results/demo."),
        ("empty", "empty/metrics/base/heldout.parquet: file: it does not exist. Run the workflow."),
        ("moved", "moved: slides: no held-out slide in common with demo: u here, s, t there."),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line_and_no_page_is_written(runs, tmp_path, second, message):
    (tmp_path / "empty/slides").mkdir(parents=True)
    a_run(tmp_path / "moved", [], slides=("u",))
    with pytest.raises(UserError) as caught:
        compare(runs[0], tmp_path / second, tmp_path / "compare.html")
    assert message in str(caught.value)
    assert not (tmp_path / "compare.html").exists()


def test_a_run_file_that_cannot_be_read_is_named(runs, tmp_path):
    keep(runs[0], evaluation={"bins": "many"})
    with pytest.raises(UserError, match=r"demo: evaluation: the section of its run file cannot be read\. Start the run again\."):
        compare(*runs, tmp_path / "compare.html")


def test_metrics_that_are_not_of_the_predictions_beside_them_are_refused_and_no_page_is_written(runs, tmp_path):
    predictions(runs[1] / "predictions/base/gate/seed-0/s.parquet", [])
    with pytest.raises(
        UserError, match=r"other/metrics/base/heldout.parquet: value: .* Remove the file and start the run again, which scores them\."
    ):
        compare(*runs, tmp_path / "compare.html")
    assert not (tmp_path / "compare.html").exists()
