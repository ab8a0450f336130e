"""Scores equal those of sklearn and of plain loops, and their intervals cover."""

import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from nuclass_pipeline.config.evaluation import EvaluationConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.evaluate.bootstrap import draw_weights, interval
from nuclass_pipeline.evaluate.heldout import score_predictions
from nuclass_pipeline.evaluate.metrics import OVERALL, PER_CLASS, bin_of, pool, score_classes, score_overall, tally_blocks
from nuclass_pipeline.io import read_table, read_warnings, write_table
from nuclass_pipeline.schemas import METRICS, RELIABILITY
from tests.unit.evaluate.planted import CLASSES, draw_labels, one_hot, random_proba, write_predictions

KEY = ["slide", "probabilities", "label_set", "label", "metric"]


def _overall(proba: np.ndarray, truth: np.ndarray, bins: int = 10) -> dict[str, float]:
    tally = tally_blocks(truth, proba, np.zeros(len(truth), np.int64), blocks=1, bins=bins)
    return dict(zip(OVERALL, score_overall(tally)[0], strict=True))


def _score(root: Path, files: list[Path], slides: list[str], temperature: float = 1.0, bootstrap: int = 50) -> pd.DataFrame:
    row = {
        "run": "r",
        "model": "gate",
        "variant": "base",
        "probabilities": "calibrated",
        "seed": 0,
        "slide": "pooled",
        "organ": "all",
        "label": "all",
    }
    row |= {"label_set": "open", "metric": "temperature", "value": temperature, "ci_low": np.nan, "ci_high": np.nan, "n_cells": 9}
    write_table(pd.DataFrame([row]), root / "calibration.parquet", METRICS)
    score_predictions(
        predictions=files,
        models=["gate"],
        seeds=[0],
        slides=slides,
        organs=dict.fromkeys(slides, "lung"),
        calibration=root / "calibration.parquet",
        run="r",
        config=EvaluationConfig(bootstrap=bootstrap),
        heldout=root / "heldout.parquet",
        reliability=root / "reliability.parquet",
    )
    return read_table(root / "heldout.parquet", METRICS).set_index(KEY)


def test_losses_and_ece_by_hand() -> None:
    proba = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.25, 0.35, 0.4], [0.85, 0.1, 0.05]])
    truth = np.array([0, 2, 2, 1])
    score = _overall(proba, truth)
    brier = [0.3**2 + 0.2**2 + 0.1**2, 0.1**2 + 0.6**2 + 0.7**2, 0.25**2 + 0.35**2 + 0.6**2, 0.85**2 + 0.9**2 + 0.05**2]
    assert score["brier"] == pytest.approx(np.mean(brier))
    assert score["nll"] == pytest.approx(-np.log([0.7, 0.3, 0.4, 0.1]).mean())
    # Bins: 0.4 alone and right, 0.6 alone and wrong, 0.7 alone and right, 0.85 alone and wrong.
    assert score["ece"] == pytest.approx((0.6 + 0.6 + 0.3 + 0.85) / 4)
    assert score["accuracy"] == 0.5


def test_bins_are_right_open_except_the_last() -> None:
    assert bin_of(np.array([0.0, 0.1, 0.3, 0.59999, 0.6, 0.7, 0.9, 1.0]), 10).tolist() == [0, 1, 3, 5, 6, 7, 9, 9]


ACCURACY = list(OVERALL).index("accuracy")


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), cells=st.integers(1, 120), classes=st.integers(2, 8), bins=st.integers(2, 15))
def test_scores_equal_the_brute_force(seed: int, cells: int, classes: int, bins: int) -> None:
    rng = np.random.default_rng(seed)
    proba = random_proba(rng, cells, classes)
    truth = rng.integers(0, rng.integers(1, classes + 1), cells)
    score, predicted, present = _overall(proba, truth, bins), proba.argmax(axis=1), np.unique(truth)
    ece = 0.0
    for low in range(bins):
        inside = [i for i in range(cells) if low == min(int(proba[i].max() * bins), bins - 1)]
        if inside:
            ece += len(inside) / cells * abs(np.mean(predicted[inside] == truth[inside]) - proba[inside].max(axis=1).mean())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = {
            "accuracy": sk.accuracy_score(truth, predicted),
            "macro_f1": sk.f1_score(truth, predicted, labels=present, average="macro", zero_division=0),
            "weighted_f1": sk.f1_score(truth, predicted, labels=present, average="weighted", zero_division=0),
            "balanced_accuracy": sk.balanced_accuracy_score(truth, predicted),
            "mcc": sk.matthews_corrcoef(truth, predicted),
            "ece": ece,
            "brier": np.mean([((proba[i] - np.eye(classes)[truth[i]]) ** 2).sum() for i in range(cells)]),
            "nll": sk.log_loss(truth, proba, labels=np.arange(classes)),
        }
    assert {name: score[name] for name in expected} == pytest.approx(expected, abs=1e-9)


def test_class_scores_equal_sklearn_and_are_missing_for_absent_classes() -> None:
    rng = np.random.default_rng(5)
    proba, truth = random_proba(rng, 300, 4), rng.integers(0, 3, 300)
    tally = tally_blocks(truth, proba, rng.integers(0, 6, 300), blocks=6, bins=10)
    scores = score_classes(tally.resample(np.ones((1, 6))))[0]
    precision, recall, f1, _ = sk.precision_recall_fscore_support(truth, proba.argmax(axis=1), labels=range(4), zero_division=0)
    np.testing.assert_allclose(scores[:, :3], np.array([f1, precision, recall])[:, :3])
    assert np.isnan(scores[:, 3]).all()
    assert PER_CLASS == ("f1", "precision", "recall")


def test_resampling_sums_equals_resampling_cells() -> None:
    rng = np.random.default_rng(6)
    proba, truth, block = random_proba(rng, 200, 3), rng.integers(0, 3, 200), rng.integers(0, 5, 200)
    weights = draw_weights(5, 3, [0])
    fast = score_overall(tally_blocks(truth, proba, block, blocks=5, bins=10).resample(weights))
    for row, weight in zip(fast, weights, strict=True):
        cells = np.concatenate([np.tile(np.flatnonzero(block == b), int(times)) for b, times in enumerate(weight)])
        assert dict(zip(OVERALL, row, strict=True)) == pytest.approx(_overall(proba[cells], truth[cells]))


def test_the_interval_covers_under_spatial_correlation() -> None:
    rng, blocks, per_block, hits = np.random.default_rng(7), 60, 30, 0
    block = np.repeat(np.arange(blocks), per_block)
    for trial in range(300):
        # Blocks differ in how hard they are; cells of one block share that. The mean accuracy is 0.7.
        right = rng.random(len(block)) < rng.beta(7, 3, blocks)[block]
        proba = one_hot(np.where(right, 0, 1).tolist(), 2)
        tally = tally_blocks(np.zeros(len(block), np.int64), proba, block, blocks=blocks, bins=10)
        low, high = interval(score_overall(tally.resample(draw_weights(blocks, 400, [trial]))))
        hits += low[ACCURACY] <= 0.7 <= high[ACCURACY]
    assert 0.91 <= hits / 300 <= 0.98


def test_one_block_gives_no_interval_and_no_resamples_give_none() -> None:
    proba, truth = one_hot([0, 1, 1], 2), np.array([0, 1, 0])
    tally = tally_blocks(truth, proba, np.zeros(3, np.int64), blocks=1, bins=10)
    for times in (0, 20):
        values = score_overall(tally.resample(draw_weights(1, times, [0])))
        assert values[0, ACCURACY] == pytest.approx(2 / 3)
        assert np.isnan(interval(values)).all()


def test_a_thousand_resamples_take_less_than_a_second() -> None:
    rng = np.random.default_rng(8)
    proba, truth, block = random_proba(rng, 50_000, 16), rng.integers(0, 16, 50_000), rng.integers(0, 400, 50_000)
    seconds = []
    # The best of three, since other processes may hold the cores.
    for _ in range(3):
        start = time.perf_counter()
        tally = pool([tally_blocks(truth, proba, block, blocks=400, bins=10).resample(draw_weights(400, 1000, [0]))])
        interval(np.hstack([score_overall(tally), score_classes(tally).reshape(1001, -1)]))
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1


def test_closed_and_open_differ_as_planted(tmp_path: Path) -> None:
    # T_Cell is not on the slide. Two Acinar cells are called T_Cell with Acinar second: wrong when open, right when closed.
    proba = np.array([[0.3, 0.1, 0.6], [0.35, 0.05, 0.6], [0.9, 0.05, 0.05], [0.2, 0.7, 0.1]])
    rows = _score(tmp_path, [write_predictions(tmp_path, proba, ["Acinar", "Acinar", "Acinar", "Ductal"])], ["a"])
    value = rows["value"]
    assert value["a", "raw", "open", "all", "accuracy"] == 0.5
    assert value["a", "raw", "closed", "all", "accuracy"] == 1.0
    assert value["a", "raw", "open", "Acinar", "f1"] == pytest.approx(0.5)
    # Open: Acinar 1/2 and Ductal 1; T_Cell has no truth and does not enter the macro average.
    assert value["a", "raw", "open", "all", "macro_f1"] == pytest.approx(0.75)
    renormalized = np.array([0.3 / 0.4, 0.35 / 0.4, 0.9 / 0.95, 0.7 / 0.9])
    assert value["a", "raw", "closed", "all", "nll"] == pytest.approx(-np.log(renormalized).mean())
    assert "T_Cell" not in rows.index.get_level_values("label")


def test_temperature_leaves_accuracy_alone_and_moves_confidence(tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    proba = random_proba(rng, 400, 3)
    labels = np.asarray(CLASSES)[draw_labels(rng, proba)]
    rows = _score(tmp_path, [write_predictions(tmp_path, proba, labels)], ["a"], temperature=2.7)
    for metric in ("accuracy", "macro_f1", "mcc"):
        raw, calibrated = (rows.loc[("a", variant, "open", "all", metric)] for variant in ("raw", "calibrated"))
        assert raw[["value", "ci_low", "ci_high"]].tolist() == calibrated[["value", "ci_low", "ci_high"]].tolist()
    ece = rows["value"].xs("ece", level="metric").xs("open", level="label_set")
    assert abs(ece["a", "raw", "all"] - ece["a", "calibrated", "all"]) > 0.1


def test_cells_of_classes_that_the_model_lacks_are_errors_of_the_open_set(tmp_path: Path) -> None:
    labels = ["Acinar", "Ductal", "Unresolved", "Monocyte", "Monocyte", "NK_Cell"]
    rows = _score(tmp_path, [write_predictions(tmp_path, one_hot([0, 1, 0, 0, 0, 0], 3), labels)], ["a"])
    unseen = rows["value"].xs("unseen_cells", level="metric").droplevel(["slide", "probabilities", "label_set"])
    assert unseen.to_dict() == {"all": 3, "Monocyte": 2, "NK_Cell": 1}
    value, cells = rows["value"], rows["n_cells"]
    assert value["a", "raw", "open", "all", "accuracy"] == pytest.approx(2 / 5)
    assert cells["a", "raw", "open", "all", "accuracy"] == 5
    # Acinar: 1 right, 3 more predicted. Monocyte and NK_Cell have an F1 of 0, and they count.
    assert value["a", "raw", "open", "all", "macro_f1"] == pytest.approx((2 / 5 + 1 + 0 + 0) / 4)
    assert [value["a", "raw", "open", "Monocyte", name] for name in PER_CLASS] == [0, 0, 0]
    assert value["a", "raw", "open", "all", "brier"] == pytest.approx((2 * (0.2**2 + 2 * 0.1**2) + 3 * (0.8**2 + 2 * 0.1**2 + 1)) / 5)
    assert value["a", "raw", "open", "all", "ece"] == pytest.approx(0.8 - 2 / 5)
    # The loss of a class without a probability is infinite.
    assert value["a", "raw", "open", "all", "nll"] == pytest.approx(-np.log(0.8))
    assert cells["a", "raw", "open", "all", "nll"] == 2
    assert value["a", "raw", "closed", "all", "accuracy"] == 1.0
    assert cells["a", "raw", "closed", "all", "accuracy"] == 2
    assert ("a", "raw", "closed", "Monocyte", "f1") not in rows.index
    warned = "a: 3 of 5 labelled cells are of classes that the model lacks (Monocyte 2, NK_Cell 1): errors of the open label set"
    assert any(text.startswith(warned) for text in read_warnings(tmp_path / "heldout.parquet"))


def test_a_slide_with_one_class_has_no_closed_score_and_is_in_no_mean(tmp_path: Path) -> None:
    first = write_predictions(tmp_path, one_hot([0, 0, 1, 0], 3), ["Acinar", "Acinar", "Ductal", "Ductal"], slide="a")
    second = write_predictions(tmp_path, one_hot([2, 1], 3), ["T_Cell", "T_Cell"], slide="b")
    rows = _score(tmp_path, [first, second], ["a", "b"])
    closed = rows.xs("raw", level="probabilities").xs("closed", level="label_set").sort_index()
    assert closed.loc["b"].index.get_level_values("metric").tolist() == sorted(OVERALL)
    assert closed.loc["b", ["value", "ci_low", "ci_high"]].isna().all(axis=None)
    assert closed.loc["b", "n_cells"].eq(0).all()
    for joined in ("mean", "pooled"):
        assert closed.loc[(joined, "all", "accuracy"), ["value", "n_cells"]].tolist() == [0.75, 4]
    assert rows["value"]["b", "raw", "open", "all", "accuracy"] == 0.5
    assert "b: its cells are of one class of the model, so it has no score with the closed label set" in read_warnings(
        tmp_path / "heldout.parquet"
    )
    alone = _score(tmp_path, [second], ["b"])["value"]
    assert np.isnan(alone["mean", "raw", "closed", "all", "accuracy"])
    assert np.isnan(alone["pooled", "raw", "closed", "all", "accuracy"])


def test_a_raised_ece_is_a_warning(tmp_path: Path) -> None:
    rng = np.random.default_rng(12)
    proba = random_proba(rng, 300, 3)
    labels = np.asarray(CLASSES)[draw_labels(rng, proba)]
    file = write_predictions(tmp_path, proba, labels)
    value = _score(tmp_path, [file], ["a"], temperature=3.0)["value"]
    raw, calibrated = (value["a", variant, "open", "all", "ece"] for variant in ("raw", "calibrated"))
    assert calibrated > raw + 0.1
    warned = f"gate, seed 0: calibration raised the ECE of a from {raw:.3f} to {calibrated:.3f}"
    assert read_warnings(tmp_path / "heldout.parquet") == [warned]
    _score(tmp_path, [file], ["a"])
    assert read_warnings(tmp_path / "heldout.parquet") == []


def test_mean_and_pooled(tmp_path: Path) -> None:
    first = write_predictions(tmp_path, one_hot([0, 0, 0, 0], 3), ["Acinar"] * 3 + ["Ductal"], slide="a")
    second = write_predictions(tmp_path, one_hot([2, 1], 3), ["T_Cell", "T_Cell"], slide="b")
    value = _score(tmp_path, [first, second], ["a", "b"])["value"].xs("raw", level="probabilities").xs("open", level="label_set")
    assert value["mean", "all", "accuracy"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert value["pooled", "all", "accuracy"] == pytest.approx(4 / 6)
    # A class on one slide only: the mean is that slide's score.
    assert value["mean", "T_Cell", "f1"] == value["b", "T_Cell", "f1"] == pytest.approx(2 / 3)
    assert value["pooled", "all", "macro_f1"] == pytest.approx(np.mean([6 / 7, 0, 2 / 3]))


def test_reliability_bins_reproduce_the_ece(tmp_path: Path) -> None:
    rng = np.random.default_rng(10)
    files = [write_predictions(tmp_path, random_proba(rng, 80, 3), rng.choice(CLASSES, 80), slide=slide) for slide in "ab"]
    rows = _score(tmp_path, files, ["a", "b"], temperature=1.5)["value"]
    bins = read_table(tmp_path / "reliability.parquet", RELIABILITY)
    assert len(bins) == 3 * 2 * 2 * 10
    for (slide, variant, label_set), diagram in bins.groupby(["slide", "probabilities", "label_set"]):
        ece = (diagram["n_cells"] * (diagram["accuracy"] - diagram["confidence"]).abs()).sum() / diagram["n_cells"].sum()
        assert ece == pytest.approx(rows[slide, variant, label_set, "all", "ece"])


def test_bounds_of_a_bin_are_those_of_resampled_blocks(tmp_path: Path) -> None:
    rng = np.random.default_rng(13)
    # Confidences 0.8 in blocks 0 to 4, 0.65 in block 5 alone, and 0.95 always right; the last are in all blocks.
    block = np.concatenate([rng.integers(0, 5, 300), np.full(20, 5), rng.integers(0, 6, 100)])
    sure = np.repeat([0.8, 0.65, 0.95], [300, 20, 100])
    proba = np.column_stack([sure, (1 - sure) / 2, (1 - sure) / 2])
    right = np.concatenate([rng.random(320) < 0.7, np.ones(100, bool)])
    labels = np.where(right, "Acinar", "Ductal")
    file = write_predictions(tmp_path, proba, labels, block=[str(name) for name in block])
    _score(tmp_path, [file], ["a"], bootstrap=200)
    table = read_table(tmp_path / "reliability.parquet", RELIABILITY)
    bins = table[(table["slide"] == "a") & (table["probabilities"] == "raw") & (table["label_set"] == "open")].set_index("bin")
    weights = draw_weights(6, 200, [EvaluationConfig().seed, 0])[1:, :5]
    hits, cells = (np.bincount(block[:300], values, minlength=5) for values in (right[:300], None))
    drawn = weights @ hits / (weights @ cells)
    assert bins.loc[8, ["accuracy_low", "accuracy_high"]].tolist() == pytest.approx(np.quantile(drawn, [0.025, 0.975]).tolist())
    assert bins.loc[8, "accuracy_low"] < bins.loc[8, "accuracy"] < bins.loc[8, "accuracy_high"]
    # Unknown and not 0 in a bin of one block, in one whose cells are all right, and in an empty one.
    assert bins.loc[[6, 9, 0], ["accuracy_low", "accuracy_high"]].isna().all(axis=None)
    assert bins.loc[[6, 9], "accuracy"].notna().all()


def test_scores_are_reproducible(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    path = write_predictions(tmp_path, random_proba(rng, 90, 3), rng.choice(CLASSES, 90))
    pd.testing.assert_frame_equal(_score(tmp_path, [path], ["a"]), _score(tmp_path, [path], ["a"]))


@pytest.mark.parametrize(
    ("proba", "labels", "subset", "message"),
    [
        (one_hot([0, 1], 3), ["Acinar", "Ductal"], ["heldout", "train"], "1 cells belong to a training slide"),
        (one_hot([0, 1], 3) * 2, ["Acinar", "Ductal"], "heldout", "add up to 1"),
        (one_hot([0, 1], 3), ["Unresolved", "Monocyte"], "heldout", "no cell has a label"),
    ],
)
def test_what_cannot_be_scored_is_refused(tmp_path: Path, proba: np.ndarray, labels: list[str], subset: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        _score(tmp_path, [write_predictions(tmp_path, proba, labels, subset=subset)], ["a"])


def test_a_model_without_a_temperature_is_refused(tmp_path: Path) -> None:
    path = write_predictions(tmp_path, one_hot([0, 1], 3), ["Acinar", "Ductal"], seed=1)
    _score(tmp_path, [write_predictions(tmp_path, one_hot([0, 1], 3), ["Acinar", "Ductal"])], ["a"])
    with pytest.raises(UserError, match="there is no temperature for gate, seed 1"):
        score_predictions(
            predictions=[path],
            models=["gate"],
            seeds=[1],
            slides=["a"],
            organs={"a": "lung"},
            calibration=tmp_path / "calibration.parquet",
            run="r",
            config=EvaluationConfig(bootstrap=0),
            heldout=tmp_path / "heldout.parquet",
            reliability=tmp_path / "reliability.parquet",
        )
