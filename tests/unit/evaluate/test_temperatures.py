"""Temperatures from the outputs of the models are those from the prediction tables."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nuclass_pipeline.config.evaluation import EvaluationConfig
from nuclass_pipeline.config.models import MODELS
from nuclass_pipeline.evaluate.calibration import calibrate_models, read_temperatures
from nuclass_pipeline.evaluate.predict import predict_slide
from nuclass_pipeline.evaluate.temperatures import fit_temperatures
from tests.unit.evaluate.test_predict import CLASSES, files, write_features  # noqa: F401


def test_they_equal_those_of_the_prediction_tables(files: dict[str, Any], tmp_path: Path) -> None:  # noqa: F811
    rng = np.random.default_rng(3)
    for name, column, values in (("split", "subset", ["gate", "val"]), ("labels", "label", [*CLASSES, "Unresolved"])):
        frame = pd.read_parquet(files[name])
        frame.assign(**{column: rng.choice(values, len(frame))}).to_parquet(files[name])
    write_features(tmp_path / "other.h5", rng)
    slides = {"a": files["features"], "b": tmp_path / "other.h5"}
    for slide, features in slides.items():
        outputs = {name: tmp_path / f"predictions/{name.strip('_')}/seed-5/{slide}.parquet" for name in ("local", "global_", "gate")}
        predict_slide(**{**files, **outputs, "features": features})
    names = {"seeds": [5], "run": "r"}
    tables = [tmp_path / f"predictions/{model}/seed-5/{slide}.parquet" for model in MODELS for slide in slides]
    config = EvaluationConfig(bootstrap=0)
    calibrate_models(predictions=tables, models=MODELS, slides=list(slides), **names, config=config, calibration=tmp_path / "c.parquet")
    twice = {"labels": [files["labels"]] * 2, "splits": [files["split"]] * 2}
    fit_temperatures(
        features=list(slides.values()), checkpoints=[files["checkpoint"]], **twice, **names, temperatures=tmp_path / "t.parquet"
    )
    found = read_temperatures(tmp_path / "t.parquet")
    assert found == read_temperatures(tmp_path / "c.parquet")
    assert list(found) == [(model, 5) for model in MODELS]
    assert any(value != pytest.approx(1) for value in found.values())
