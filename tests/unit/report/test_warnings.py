import re

import pytest

from nuclass_pipeline.io import read_rows
from nuclass_pipeline.report.warnings import RUN, explain_warning, group_warnings
from tests import ROOT
from tests.unit.report.study import write_warnings

PACKAGE = ROOT / "src/nuclass_pipeline"
ROWS = [row for _, row in read_rows(PACKAGE / "report/warnings.tsv").rows]
SOURCE = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py") if path.parent.name != "report")
# Words of warnings as the stages write them: where one is worded otherwise, warnings.tsv may need another pattern.
WORDS = {
    "cells": ["the gene names look like", "gene names are dates", "are not in the cell table and are left out", "have no outline in"],
    "registration": ["red and blue look exchanged", "of the cells lie on the H&E", "of the cells match nuclei"],
    "image": ["tissue covers", "it is not stained as an H&E is", "is filled with the color"],
    "nuclei": ["objects were dropped", "nuclei per mm² of tissue"],
    "labels": ["have a marker on the panel", "cells have no provided label that is a class"],
    "split": ["cells have no image and are in no subset", "cells have a label and an image", "cells in a subset"],
    "calibration_metrics": ["the calibration cells are of one slide", "is at its bound"],
    "heldout_metrics": ["of classes that the model lacks", "calibration raised the ECE of"],
    "manifest": ["that no commit holds"],
}


@pytest.mark.parametrize(("stage", "words"), [(stage, words) for stage, listed in WORDS.items() for words in listed])
def test_a_kind_of_warning_has_its_own_explanation(stage, words):
    assert words in SOURCE, "the stage words its warning otherwise"
    general = explain_warning(stage, "")
    assert explain_warning(stage, f"3 of 9 {words} 5") != general
    assert explain_warning(stage, f"3 of 9 {words} 5").remedy


def test_every_result_with_warnings_has_a_general_explanation_and_no_row_is_idle():
    collected = set(re.findall(r"^        (\w+)=", (ROOT / "workflow/rules/warnings.smk").read_text(), re.MULTILINE))
    stages = collected - {"warnings", "mem_mb", "runtime", "code"}
    assert {row["stage"] for row in ROWS if row["pattern"] == "."} == stages
    assert {row["stage"] for row in ROWS} == stages
    for number, row in enumerate(ROWS):
        assert all(row.values())
        assert row["meaning"].endswith(".")
        assert row["remedy"].endswith(".")
        before = {(other["stage"], other["pattern"]) for other in ROWS[:number]}
        assert not before & {(row["stage"], "."), (row["stage"], row["pattern"])}


def test_a_warning_of_an_unknown_stage_has_no_explanation():
    assert explain_warning("elsewhere", "odd") == ("", "")


def test_groups_follow_the_slides_and_join_equal_explanations(tmp_path):
    rows = [("b", "split", "6 cells have no image"), ("", "manifest", "odd"), ("b", "split", "7 cells have no image")]
    rows += [("a", "split", "x: y"), ("", "heldout_metrics", "a: odd"), ("", "heldout_metrics", "gate, seed 0: odd")]
    rows += [("gone", "split", "odd")]
    groups = group_warnings(write_warnings(tmp_path / "w.parquet", rows), ["a", "b", "c"])
    assert [(group["slide"], group["count"]) for group in groups] == [(RUN, 2), ("a", 2), ("b", 2), ("gone", 1)]
    assert [kind["texts"] for kind in groups[2]["kinds"]] == [["split: 6 cells have no image", "split: 7 cells have no image"]]
    assert [kind["texts"] for kind in groups[1]["kinds"]] == [["split: x: y"], ["heldout_metrics: odd"]]
