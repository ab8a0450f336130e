"""Two runs whose differences are known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nuclass_pipeline.config.evaluation import EvaluationConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.evaluate.bootstrap import draw_weights, interval
from nuclass_pipeline.evaluate.heldout import score_predictions
from nuclass_pipeline.evaluate.metrics_table import tidy, write_metrics
from nuclass_pipeline.evaluate.two_runs import compare_runs, read_scores
from nuclass_pipeline.io import write_table
from nuclass_pipeline.schemas import PREDICTIONS

CLASSES = ("B_Cell", "T_Cell", "Ductal")
BLOCKS, CELLS = 20, 400
CONFIG = EvaluationConfig(bootstrap=200, bins=5, seed=3)


def predictions(path, wrong, model=CLASSES, classes=None, confidence=0.8, **columns):
    """Write predictions of 400 cells in 20 blocks, of which the cells of `wrong` are predicted as the next class.

    `model` names what is predicted for cells of the three classes, and `classes` orders the columns.
    """
    truth = np.arange(CELLS) % 3
    predicted = np.where(np.isin(np.arange(CELLS), wrong), (truth + 1) % 3, truth)
    proba = np.full((CELLS, 3), (1 - confidence) / 2)
    proba[np.arange(CELLS), predicted] = confidence
    frame = pd.DataFrame(
        {
            "cell_id": [f"c{number}" for number in range(CELLS)],
            "label": np.array(CLASSES)[truth],
            "subset": "heldout",
            "block": [f"b{number * BLOCKS // CELLS:02d}" for number in range(CELLS)],
            "x_um": np.arange(CELLS, dtype=float),
            "y_um": 0.0,
            "padded": False,
            "predicted": np.array(model)[predicted],
            "gate_weight": 0.5,
        }
    ).assign(**columns)
    classes = classes or model
    order = [model.index(name) for name in classes]
    for prefix in ("p_", "c_"):
        frame[[f"{prefix}{name}" for name in classes]] = proba[:, order]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(frame.assign(confidence=confidence), path, PREDICTIONS)


def a_run(folder: Path, wrong, slides=("s",), models=("gate",), seeds=(0,), variant="base", **options):
    """Return a run with predictions of slides, scored as the workflow scores them."""
    files = [
        folder / f"predictions/{variant}/{model}/seed-{seed}/{slide}.parquet" for model in models for seed in seeds for slide in slides
    ]
    for path in files:
        predictions(path, wrong, **options)
    place = {"probabilities": "calibrated", "slide": "pooled", "organ": "all", "label_set": "open"}
    named = [place | {"model": model, "seed": seed} for model in models for seed in seeds]
    rows = [tidy(np.ones((1, 1)), ["all"], ["temperature"], [1], **names) for names in named]
    metrics = folder / "metrics" / variant
    metrics.mkdir(parents=True)
    write_metrics(rows, metrics / "calibration.parquet", "run", variant=variant)
    names = {"models": models, "seeds": seeds, "slides": slides, "organs": dict.fromkeys(slides, "lung"), "run": "run", "config": CONFIG}
    out = {name: metrics / f"{name}.parquet" for name in ("heldout", "reliability")}
    score_predictions(predictions=files, calibration=metrics / "calibration.parquet", variant=variant, **names, **out)
    return read_scores(folder, folder.name, variant)


def test_the_difference_is_that_of_the_scores_with_a_paired_interval(tmp_path):
    first, second = a_run(tmp_path / "a", range(40)), a_run(tmp_path / "b", range(60, 80))
    found = compare_runs(first, second, CONFIG)
    scores = found.scores.set_index("metric")
    accuracy = scores.loc["accuracy"]
    assert (accuracy["first"], accuracy["second"], accuracy["cells"]) == (0.9, 0.95, 400)
    assert accuracy["difference"] == pytest.approx(0.05)
    # By hand: blocks of 20 cells, of which the first two are wrong in the first run and the fourth in the second.
    gain = np.zeros(BLOCKS)
    gain[[0, 1]], gain[3] = 20, -20
    resampled = draw_weights(BLOCKS, 200, [3, 0]) @ gain / CELLS
    low, high = interval(resampled[:, None])
    assert accuracy[["difference_low", "difference_high"]].tolist() == pytest.approx([low[0], high[0]])
    assert accuracy["first_low"] < 0.9 < accuracy["first_high"]
    assert scores.loc["macro_f1", "difference"] == pytest.approx(scores.loc["macro_f1", "second"] - scores.loc["macro_f1", "first"])
    assert scores.loc["ece", ["first", "second", "difference"]].tolist() == pytest.approx([0.1, 0.15, 0.05])
    assert found.agreement.iloc[0][["same", "both", "only_first", "only_second", "neither"]].tolist() == [0.85, 0.85, 0.05, 0.1, 0.0]
    assert found.notes == []


def test_equal_runs_differ_by_nothing(tmp_path):
    first = a_run(tmp_path / "a", range(30), slides=("s", "t"), models=("local", "gate"))
    found = compare_runs(first, a_run(tmp_path / "b", range(30), slides=("s", "t"), models=("local", "gate")), CONFIG)
    for frame in (found.scores, found.classes):
        assert (frame[["difference", "difference_low", "difference_high"]] == 0).all(axis=None)
    assert found.scores["slide"].tolist() == ["s"] * 6 + ["t"] * 6 + ["mean"] * 6
    assert found.scores["first"].equals(found.scores["second"])
    assert (found.agreement["same"] == 1).all()


def test_the_mean_over_slides_has_the_mean_difference_and_the_interval_of_means_of_resamples(tmp_path):
    first, second = (a_run(tmp_path / name, range(40), slides=("s", "t")) for name in ("a", "b"))
    predictions(tmp_path / "b/predictions/base/gate/seed-0/s.parquet", [])
    predictions(tmp_path / "b/predictions/base/gate/seed-0/t.parquet", range(100, 120))
    row = compare_runs(first, second, CONFIG).scores.set_index(["slide", "metric"]).loc[("mean", "accuracy")]
    assert (row["first"], row["difference"], row["cells"]) == (pytest.approx(0.9), pytest.approx((0.1 + 0.05) / 2), 800)
    gains = np.zeros((2, BLOCKS))
    gains[:, [0, 1]], gains[1, 5] = 20, -20
    resampled = np.mean([draw_weights(BLOCKS, 200, [3, slide]) @ gains[slide] / CELLS for slide in (0, 1)], axis=0)
    low, high = interval(resampled[:, None])
    assert row[["difference_low", "difference_high"]].tolist() == pytest.approx([low[0], high[0]])
    assert low[0] < high[0]


def test_a_slide_without_a_common_cell_is_left_out_of_all_rows_and_named(tmp_path):
    first, second = a_run(tmp_path / "a", range(40), slides=("s", "t", "u")), a_run(tmp_path / "b", range(20), slides=("s", "t", "u"))
    predictions(tmp_path / "b/predictions/base/gate/seed-0/t.parquet", range(20), cell_id=[f"d{number}" for number in range(CELLS)])
    found = compare_runs(first, second, CONFIG)
    assert found.cells.set_index("slide").loc["t", ["common", "only_first", "only_second"]].tolist() == [0, 400, 400]
    for frame in (found.scores, found.classes, found.agreement):
        assert [name for name in frame["slide"].unique() if name != "mean"] == ["s", "u"]
    mean = found.scores.set_index(["slide", "metric"]).loc[("mean", "accuracy")]
    assert (mean["difference"], mean["cells"]) == (pytest.approx(0.05), 800)
    # Neither run has a score over these two slides alone.
    assert mean[["first", "first_low", "first_high", "second", "second_low", "second_high"]].isna().all()
    assert found.notes == [
        "t: 0 labelled cells are scored in both runs, 400 only in a, 400 only in b.",
        "t: no labelled cell is in both runs, so the slide is not compared, and a mean over slides leaves it out.",
    ]


def test_cells_of_a_class_that_one_model_lacks_are_its_errors(tmp_path):
    first, second = a_run(tmp_path / "a", []), a_run(tmp_path / "b", [], model=("B_Cell", "T_Cell", "Acinar"))
    found = compare_runs(first, second, CONFIG)
    classes = found.classes.set_index("label")
    assert classes["cells"].to_dict() == {"B_Cell": 134, "T_Cell": 133, "Ductal": 133}
    assert classes["second"].to_dict() == {"B_Cell": 1, "T_Cell": 1, "Ductal": 0}
    assert classes.loc["Ductal", ["difference", "difference_low", "difference_high"]].tolist() == [-1, -1, -1]
    scores = found.scores.set_index("metric")
    assert scores.loc["accuracy", ["second", "difference"]].tolist() == pytest.approx([267 / 400, -133 / 400])
    assert scores.loc["macro_f1", ["second", "difference"]].tolist() == pytest.approx([2 / 3, -1 / 3])
    back = compare_runs(second, first, CONFIG)
    assert back.classes.set_index("label").loc["Ductal", ["first", "second", "difference"]].tolist() == [0, 1, 1]
    assert found.agreement.iloc[0][["same", "only_first", "neither"]].tolist() == [0.6675, 0.3325, 0]


def test_f1_of_a_class_is_found_by_its_name_where_the_runs_order_their_classes_differently(tmp_path):
    wrong = [number for number in range(120) if number % 3 == 0]
    first, second = a_run(tmp_path / "a", []), a_run(tmp_path / "b", wrong, classes=CLASSES[::-1])
    classes = compare_runs(first, second, CONFIG).classes.set_index("label")
    assert classes["cells"].to_dict() == {"B_Cell": 134, "T_Cell": 133, "Ductal": 133}
    assert classes["first"].tolist() == [1, 1, 1]
    expected = {"B_Cell": 2 * 94 / (134 + 94), "T_Cell": 2 * 133 / (133 + 173), "Ductal": 1}
    assert classes["second"].to_dict() == pytest.approx(expected)
    assert classes.loc["Ductal", ["difference", "difference_low", "difference_high"]].tolist() == [0, 0, 0]


def test_only_cells_of_both_with_one_label_in_one_place_are_compared_and_the_others_are_counted(tmp_path):
    truth = np.array(CLASSES)[np.arange(CELLS) % 3].astype(object)
    labels, others = truth.copy(), truth.copy()
    labels[:10], others[10:15] = "Unresolved", np.roll(truth, 1)[10:15]
    place = np.arange(CELLS, dtype=float)
    place[-7:] += 50
    subset = np.where(np.arange(CELLS) >= 300, "excluded", "heldout")
    subset[-7:] = "heldout"
    first = a_run(tmp_path / "a", range(20), label=labels)
    second = a_run(tmp_path / "b", range(30), label=others, x_um=place, subset=subset)
    found = compare_runs(first, second, CONFIG)
    row = found.cells.iloc[0]
    assert row.to_dict() == {
        "slide": "s", "common": 285, "only_first": 93, "only_second": 10, "other_label": 5, "other_place": 7,
    }  # fmt: skip
    assert found.scores["cells"].tolist() == [285] * 3
    assert "s: 297 labelled cells are scored in both runs, 93 only in a, 10 only in b." in found.notes
    assert "s: 5 cells have another label in b than in a, and are not compared." in found.notes
    assert "s: 7 cells lie elsewhere in b, so the slides may be different ones of one name." in found.notes


def test_scores_are_means_over_the_seeds_of_each_run_and_slides_of_one_are_named(tmp_path):
    first = a_run(tmp_path / "a", range(40), slides=("s", "t"), seeds=(0, 1))
    predictions(tmp_path / "a/predictions/base/gate/seed-1/s.parquet", range(20))
    second = a_run(tmp_path / "b", [], slides=("u", "s"), seeds=(5,))
    found = compare_runs(first, second, CONFIG)
    accuracy = found.scores.set_index("metric").loc["accuracy"]
    assert accuracy["difference"] == pytest.approx(1 - (0.9 + 0.95) / 2)
    assert found.scores["slide"].unique().tolist() == ["s"]
    assert found.notes == [
        "Held out in a only, so not compared: t.",
        "Held out in b only, so not compared: u.",
        "Scores are means over the seeds 0, 1 of a and 5 of b; the agreement is that of the first seed of each.",
        "Intervals are over spatial blocks only; seeds are not resampled.",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"slides": ("u",)},
            "b: slides: no held-out slide in common with a: u here, s there. Compare runs that score the same held-out slide.",
        ),
        ({"models": ("local",)}, "b: models: no model in common with a: local here, gate there. Compare runs that score the same model."),
        ({"x_um": np.arange(CELLS) + 90.0}, "b: predictions: no labelled cell of s is in both runs. Compare runs that give the same cells"),
        ({"cell_id": [f"d{number}" for number in range(CELLS)]}, "b: predictions: no labelled cell of s is in both runs."),
    ],
)
def test_runs_with_nothing_in_common_are_refused_in_one_line(tmp_path, options, message):
    first, second = a_run(tmp_path / "a", []), a_run(tmp_path / "b", [], **options)
    with pytest.raises(UserError) as caught:
        compare_runs(first, second, CONFIG)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
