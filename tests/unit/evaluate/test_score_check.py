"""Metrics beside the predictions that they are of, and beside others."""

import numpy as np
import pandas as pd
import pytest

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.evaluate.score_check import check_scores
from nuclass_pipeline.io import write_table
from nuclass_pipeline.schemas import PREDICTIONS
from tests.unit.evaluate.test_two_runs import CELLS, a_run, predictions


def replace_predictions(path, change):
    if change == "order":  # Another order of the rows changes no score.
        frame = pd.read_parquet(path)
        write_table(frame.iloc[::-1], path, PREDICTIONS)
    else:
        predictions(path, **{"wrong": range(40)} | change)


@pytest.mark.parametrize(
    ("change", "score"),
    [
        ({"wrong": range(60)}, "accuracy of gate on t is 0.900000, and 0.850000"),
        ({"wrong": range(1, 41)}, "macro_f1 of gate on t is 0.900003, and 0.899992"),
        ({"confidence": 0.7}, "brier of gate on t is 0.200000, and 0.245000"),
        ({"subset": np.where(np.arange(CELLS) < 50, "excluded", "heldout")}, "accuracy of gate on t is 0.900000, and 1.000000"),
        ("order", None),
        ({}, None),
    ],
)
def test_metrics_of_other_predictions_than_those_beside_them_are_refused(tmp_path, change, score):
    run = a_run(tmp_path / "a", range(40), slides=("s", "t"), models=("local", "gate"), seeds=(0, 1))
    path = tmp_path / "a/predictions/base/gate/seed-1/t.parquet"
    replace_predictions(path, change)
    if score is None:
        check_scores(run)
        return
    with pytest.raises(UserError) as caught:
        check_scores(run)
    assert str(caught.value) == (
        f"{tmp_path}/a/metrics/base/heldout.parquet: value: {score} from {path}, so it is of other predictions. "
        "Remove the file and start the run again, which scores them."
    )


def test_metrics_of_a_class_that_the_model_lacks_are_those_of_their_predictions(tmp_path):
    check_scores(a_run(tmp_path / "a", range(40), model=("B_Cell", "T_Cell", "Acinar")))
