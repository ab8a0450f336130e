"""Temperatures are those planted, and fitted on validation cells alone."""

from pathlib import Path

import numpy as np
import pytest

from nuclass_pipeline.config.evaluation import EvaluationConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.evaluate.calibration import calibrate_models, fit_temperature, read_temperatures
from nuclass_pipeline.evaluate.predictions import adjust, by_model
from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import METRICS
from tests.unit.evaluate.planted import CLASSES, draw_labels, random_proba, write_predictions

CONFIG = EvaluationConfig(bootstrap=50)


def _calibrate(path: Path, output: Path, slide: str = "a") -> None:
    calibrate_models(predictions=[path], models=["gate"], seeds=[0], slides=[slide], run="r", config=CONFIG, calibration=output)


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
    value = frame.set_index(["variant", "metric"])["value"]
    assert value["calibrated", "temperature"] == pytest.approx(3, rel=0.06)
    assert value["calibrated", "nll"] < value["raw", "nll"]
    assert value["calibrated", "ece"] < 0.02 < value["raw", "ece"]
    assert value["calibrated", "accuracy"] == value["raw", "accuracy"]
    assert frame["n_cells"].eq(6000).all()
    assert frame.loc[frame["metric"] == "ece", ["ci_low", "ci_high"]].notna().all(axis=None)


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
