import numpy as np
import pandas as pd
import pytest

from nuclass_pipeline.report.curves import draw_curves, list_choices, plot_curves, read_histories
from tests.unit.report.study import write_history


def test_the_first_of_equal_scores_is_the_chosen_epoch(tmp_path):
    rows = read_histories([write_history(tmp_path, "gate"), write_history(tmp_path, "gate", seed=1)])
    choices = list_choices(rows)
    assert [(row["model"], row["seed"], row["passed"], row["epochs"]) for row in choices] == [("gate", "0", 3, 6), ("gate", "1", 3, 6)]
    assert choices[0]["val_macro_f1"] == 0.83125


@pytest.mark.parametrize(("checks", "passed", "epochs"), [(2, 1.5, 3), (3, 1.0, 2)])
def test_several_validations_share_an_epoch(tmp_path, checks, passed, epochs):
    [choice] = list_choices(read_histories([write_history(tmp_path, "local", checks=checks)]))
    assert (choice["passed"], choice["epochs"]) == (passed, epochs)


def test_a_training_without_a_score_has_no_chosen_epoch(tmp_path):
    path = write_history(tmp_path, "local")
    pd.read_parquet(path).assign(val_macro_f1=np.nan).to_parquet(path)
    rows = read_histories([path])
    assert list_choices(rows) == []
    assert draw_curves(rows, "local").startswith(b"<?xml")


def test_equal_histories_give_equal_drawings(tmp_path):
    rows = read_histories([write_history(tmp_path, "other")])
    drawing = draw_curves(rows, "other")
    assert drawing == draw_curves(rows, "other")
    assert b"</svg>" in drawing
    assert len(drawing) < 60_000


def test_the_key_covers_neither_a_curve_nor_the_title(tmp_path):
    figure = plot_curves(read_histories([write_history(tmp_path, "global")]), "global")
    figure.draw_without_rendering()
    above = figure.axes[0]
    key, title = above.get_legend().get_window_extent(), above._left_title.get_window_extent()
    assert key.y0 >= above.get_window_extent().y1
    assert key.x0 > title.x1
    assert key.x1 <= figure.bbox.x1
    assert key.y1 <= figure.bbox.y1
