"""Temperatures are those planted, and fitted on validation cells alone."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nuclass_pipeline.config.evaluation import EvaluationConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.evaluate.calibration import (
    calibrate_models,
    left_out_losses,
    parts_of,
    read_temperatures,
)
from nuclass_pipeline.evaluate.predictions import ScoredCells, adjust, by_model
from nuclass_pipeline.io import read_table, read_warnings, write_table
from nuclass_pipeline.models.temperature import fit_temperature
from nuclass_pipeline.schemas import METRICS, PREDICTIONS
from tests.unit.evaluate.planted import CLASSES, draw_labels, one_hot, random_proba, write_predictions

CONFIG = EvaluationConfig(bootstrap=50)


def _calibrate(path: Path, output: Path, slide: str = "a") -> None:
    names = {"models": ["gate"], "seeds": [0], "slides": [slide], "run": "r"}
    calibrate_models(predictions=[path], **names, config=CONFIG, calibration=output)


@pytest.mark.parametrize("planted", [0.6, 1.0, 2.5])
def test_the_planted_temperature_is_recovered_within_three_percent(planted: float) -> None:
    rng = np.random.default_rng(1)
    honest = random_proba(rng, 40_000, 5)
    truth = draw_labels(rng, honest)
    # p^T is over-confident for T > 1, and T undoes it.
    assert fit_temperature(adjust(honest, 1 / planted), truth) == pytest.approx(planted, rel=0.03)


def test_the_fit_beats_a_fine_grid() -> None:
    rng = np.random.default_rng(2)
    proba = random_proba(rng, 500, 4)
    truth = draw_labels(rng, adjust(proba, 1.7))

    def loss(temperature: float) -> float:
        return -np.log(adjust(proba, temperature)[np.arange(500), truth]).mean()

    assert loss(fit_temperature(proba, truth)) <= min(map(loss, np.geomspace(0.05, 20, 2000))) + 1e-9


def test_certain_probabilities_give_a_finite_temperature() -> None:
    assert np.isfinite(fit_temperature(np.eye(3), np.array([0, 1, 0])))


def test_calibration_lowers_nll_and_ece_on_overconfident_predictions(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    honest = random_proba(rng, 6000, 3)
    labels = np.asarray(CLASSES)[draw_labels(rng, honest)]
    path = write_predictions(tmp_path, adjust(honest, 1 / 3), labels, subset="val")
    _calibrate(path, tmp_path / "calibration.parquet")
    frame = read_table(tmp_path / "calibration.parquet", METRICS)
    value = frame.set_index(["probabilities", "metric"])["value"]
    assert value["calibrated", "temperature"] == pytest.approx(3, rel=0.06)
    assert value["calibrated", "nll"] < value["raw", "nll"]
    assert value["calibrated", "ece"] < 0.02 < value["raw", "ece"]
    assert value["calibrated", "accuracy"] == value["raw", "accuracy"]
    assert frame["n_cells"].eq(6000).all()
    assert frame.loc[frame["metric"] == "ece", ["ci_low", "ci_high"]].notna().all(axis=None)


def _two_slides(root: Path, sharpness: tuple[float, float], model: str = "gate", subset: str = "val") -> list[Path]:
    rng = np.random.default_rng(5)
    honest = random_proba(rng, 4000, 3)
    labels = np.asarray(CLASSES)[draw_labels(rng, honest)]
    half = np.arange(4000) < 2000
    parts = zip("ab", (half, ~half), sharpness, strict=True)
    return [write_predictions(root, adjust(honest[p], 1 / t), labels[p], model=model, slide=slide, subset=subset) for slide, p, t in parts]


def _value(path: Path) -> "pd.Series[float]":
    return read_table(path, METRICS).set_index(["probabilities", "metric"])["value"]


def _calibrate_two(files: list[Path], output: Path, model: str = "gate") -> "pd.Series[float]":
    names = {"models": [model], "seeds": [0], "slides": ["a", "b"], "run": "r"}
    calibrate_models(predictions=files, **names, config=CONFIG, calibration=output)
    return _value(output)


def test_a_calibration_that_holds_on_the_slide_left_out_is_used(tmp_path: Path) -> None:
    value = _calibrate_two(_two_slides(tmp_path, (2.0, 2.4)), tmp_path / "c.parquet")
    assert value["calibrated", "temperature"] == pytest.approx(2.2, rel=0.05)
    assert value["temperature", "nll_left_out"] < value["raw", "nll_left_out"] - 0.1
    assert value["calibrated", "ece"] < value["raw", "ece"]
    assert read_warnings(tmp_path / "c.parquet") == []


def test_a_calibration_that_fails_on_the_slide_left_out_is_not_used(tmp_path: Path) -> None:
    # Overconfident on one slide, and too cautious on the other: what suits one harms the other.
    value = _calibrate_two(_two_slides(tmp_path, (4.0, 0.3)), tmp_path / "c.parquet")
    assert value["calibrated", "temperature"] == 1
    assert value["temperature", "nll_left_out"] > value["raw", "nll_left_out"]
    for metric in ("accuracy", "ece", "brier", "nll"):
        assert value["calibrated", metric] == value["raw", metric]


def test_losses_of_parts_left_out_equal_a_plain_loop() -> None:
    rng = np.random.default_rng(6)
    proba = random_proba(rng, 90, 3)
    truth, none = draw_labels(rng, adjust(proba, 1.5)), np.zeros(90)
    cells = ScoredCells(CLASSES, (), np.arange(90), truth, proba, np.arange(90) % 11, none, 11)
    parts = parts_of([cells, cells.at(none > 0)])
    assert [len(part.truth) for part in parts] == [(np.arange(90) % 11 % 5 == fold).sum() for fold in range(5)]

    def loss(rows: np.ndarray, temperature: float) -> float:
        return float(-np.log(adjust(proba[rows], temperature)[np.arange(rows.sum()), truth[rows]]).mean())

    folds = [np.arange(90) % 11 % 5 == fold for fold in range(5)]
    fitted = [loss(fold, fit_temperature(proba[~fold], truth[~fold])) for fold in folds]
    assert left_out_losses(parts) == pytest.approx((np.mean([loss(fold, 1.0) for fold in folds]), np.mean(fitted)))


@pytest.mark.parametrize(("model", "used"), [("local", True), ("global", True), ("gate", False), ("baseline", False)])
def test_only_paths_are_calibrated_on_cells_of_the_gate(tmp_path: Path, model: str, used: bool) -> None:
    files = _two_slides(tmp_path, (2.0, 2.0), model)
    value = _calibrate_two(files, tmp_path / "c.parquet", model)
    rng = np.random.default_rng(7)
    # Cells of subset gate that are right more often lower the temperature.
    for file in files:
        cells = read_table(file, PREDICTIONS)
        cells["subset"] = np.where(rng.random(len(cells)) < 0.5, "gate", "val")
        cells.loc[(cells["subset"] == "gate") & (rng.random(len(cells)) < 0.5), "label"] = cells["predicted"]
        write_table(cells, file, PREDICTIONS)
    lowered = _calibrate_two(files, tmp_path / "c.parquet", model)["calibrated", "temperature"] < 0.9 * value["calibrated", "temperature"]
    assert lowered == used


def test_doubtful_calibrations_are_warnings(tmp_path: Path) -> None:
    path = write_predictions(tmp_path, one_hot([0, 1, 2, 0, 1, 2], 3), [CLASSES[i % 3] for i in range(6)], subset="val")
    _calibrate(path, tmp_path / "c.parquet")
    fitted = fit_temperature(one_hot([0, 1, 2], 3), np.arange(3))
    assert fitted < 0.2
    assert read_warnings(tmp_path / "c.parquet") == [
        "gate, seed 0: only 6 cells calibrate it, and 200 are few",
        f"gate, seed 0: the temperature {fitted:.3g} is at its bound, because nearly all calibration cells are right, or nearly all wrong",
        "gate, seed 0: the calibration cells are of one slide, so nothing shows whether the calibration holds on another slide",
    ]


def test_only_validation_cells_decide(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    proba = random_proba(rng, 600, 3)
    labels = np.asarray(CLASSES)[draw_labels(rng, proba)]
    subset = np.where(np.arange(600) < 300, "val", "train")
    only = write_predictions(tmp_path / "only", proba[:300], labels[:300], subset="val")
    # Training cells that are all wrong would drive the temperature to its bound.
    worst = np.asarray(CLASSES)[proba.argmin(axis=1)]
    mixed = write_predictions(tmp_path / "mixed", proba, np.where(subset == "val", labels, worst), subset=subset)
    for path in (only, mixed):
        _calibrate(path, path.with_suffix(".calibration"))
    assert read_temperatures(only.with_suffix(".calibration")) == read_temperatures(mixed.with_suffix(".calibration"))


@pytest.mark.parametrize("subset", ["heldout", ["val", "heldout"]])
def test_heldout_cells_are_refused(tmp_path: Path, subset: str | list[str]) -> None:
    path = write_predictions(tmp_path, np.full((2, 3), 1 / 3), ["Acinar", "Ductal"], subset=subset)
    with pytest.raises(UserError, match="held out"):
        _calibrate(path, tmp_path / "calibration.parquet")
    assert not (tmp_path / "calibration.parquet").exists()


def test_a_model_without_validation_cells_is_an_error(tmp_path: Path) -> None:
    path = write_predictions(tmp_path, np.full((2, 3), 1 / 3), ["Acinar", "Unresolved"], subset=["train", "val"])
    with pytest.raises(UserError, match="there is no labelled validation cell for gate"):
        _calibrate(path, tmp_path / "calibration.parquet")


def test_files_in_another_order_are_refused(tmp_path: Path) -> None:
    paths = [tmp_path / model / "seed-0" / "a.parquet" for model in ("local", "gate")]
    assert by_model(paths, ["local", "gate"], [0], ["a"]) == {("local", 0): {"a": paths[0]}, ("gate", 0): {"a": paths[1]}}
    with pytest.raises(UserError, match="gate/seed-0/a"):
        by_model(paths, ["gate", "local"], [0], ["a"])
    with pytest.raises(ValueError, match="longer"):
        by_model(paths[:1], ["local", "gate"], [0], ["a"])
