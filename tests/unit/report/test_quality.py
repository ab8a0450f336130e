import numpy as np
import pandas as pd
import pytest

from nuclass_pipeline.report.quality import summarize_cost, tabulate_quality
from tests.unit.report.study import write_quality


def test_a_sound_slide_has_nothing_flagged_and_a_missing_number_is_none(tmp_path):
    rows = tabulate_quality(write_quality(tmp_path / "q.parquet", excluded=0.0))
    assert [row["flagged"] for row in rows] == [set()] * 4
    assert [row["role"] for row in rows] == ["for training", "held out", "held out", "classified only"]
    assert rows[3]["correlation"] is None


@pytest.mark.parametrize(
    ("value", "name"),
    [(3.0, "excluded"), ("accepted", "verdict"), (8.0, "cell_types_seen"), (100, "labelled")],
)
def test_what_is_unusual_is_flagged(tmp_path, value, name):
    row = tabulate_quality(write_quality(tmp_path / "q.parquet", **{"excluded": 0.0, name: value}))[0]
    assert row["flagged"] == {name}


def test_costs_without_samples_have_no_peak():
    frame = pd.DataFrame({"rule": ["a"], "jobs": [1], "seconds": [36.0], "cpu_seconds": [0.0], "peak_mb": [np.nan]})
    assert summarize_cost(frame) == {"jobs": 1, "hours": 0.01, "cpu_hours": 0.0, "peak_gb": None, "largest": "", "untimed": []}


def test_trainings_without_a_benchmark_file_are_named_in_order():
    rules = ["train_gate", "local", "read_cells"]
    frame = pd.DataFrame({"rule": rules, "jobs": 1, "seconds": 36.0, "cpu_seconds": 1.0, "peak_mb": 1.0})
    assert summarize_cost(frame, ["local", "global", "gate"])["untimed"] == ["local", "global"]
    assert summarize_cost(frame.iloc[:0], ["local"]) == {}
