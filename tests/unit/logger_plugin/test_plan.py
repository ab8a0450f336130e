"""The plan on the screen: one table for a dry run, a few lines before a run."""

import pytest

from snakemake_logger_plugin_nuclass.plan import Plan, wildcards
from snakemake_logger_plugin_nuclass.times import PlannedJob


def plan(*rows, cores=2):
    return Plan({number: PlannedJob(number, *row) for number, row in enumerate(rows)}, cores)


SLIDES = [("label_cells", f"demo-lung-{number}", "`labeling.min_confidence` changed (0.5 → 0.6)") for number in range(1, 4)]
MADE_AGAIN = [("score_labels", "", "labels.parquet is made again"), ("split_cells", "demo-lung-1", "cells.parquet is made again")]
ALL = ("all", "", "")


def test_the_table_has_a_row_per_rule_with_count_slides_and_reason():
    table = plan(*SLIDES, *MADE_AGAIN, ALL).table()
    assert table[0] == "Job stats:"
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in table[3:-1]}
    assert rows == {
        "label_cells": "3 demo-lung-1, demo-lung-2 +1 `labeling.min_confidence` changed (0.5 → 0.6)",
        "score_labels": "1 labels.parquet is made again",
        "split_cells": "1 demo-lung-1 cells.parquet is made again",
        "all": "1",
        "total": "6",
    }
    assert table[-1] == ""


def test_reasons_of_one_rule_are_counted_where_they_differ():
    table = plan(("predict", "a", "new"), ("predict", "b", "x is newer"), ("predict", "c", "new")).table()
    assert table[3].endswith("2: new; 1: x is newer")


def test_more_than_two_reasons_of_one_rule_are_counted():
    table = plan(*(("predict", slide, f"{slide} is newer") for slide in "aabcd")).table()
    assert table[3].endswith("2: a is newer; 3: other reasons")


def test_a_run_says_each_reason_once_with_its_rules():
    lines = plan(*SLIDES, *MADE_AGAIN, ALL).summary()
    assert lines == [
        "6 jobs:",
        "  `labeling.min_confidence` changed (0.5 → 0.6): label_cells ×3",
        "  inputs made again: score_labels, split_cells",
    ]


def test_the_summary_is_short(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = plan(*((f"rule_{number}", "", f"file{number} is newer") for number in range(40))).summary()
    assert len(lines) == 10
    assert lines[-1] == "  and 32 other reasons, which `snakemake -n` lists"
    assert max(map(len, plan(*((f"rule_{number}", "", "new") for number in range(40))).summary())) < 80


def test_one_job_is_one_job():
    assert plan(("a", "", "new")).summary() == ["1 job:", "  new: a"]


def test_the_time_of_earlier_runs_is_said():
    known = Plan({1: PlannedJob(1, "a", why="new", seconds=1000)}, 2)
    assert known.summary()[0] == "1 job, about 17 min:"
    assert known.table()[-2].split() == ["total", "1", "about", "17", "min"]


@pytest.mark.parametrize(
    ("values", "words"), [({"seed": "0", "slide": "x"}, "x seed 0"), ({"slide": "x"}, "x"), ({"figure": "a"}, "figure a"), (None, "")]
)
def test_wildcards_are_in_words(values, words):
    assert wildcards(values) == words
