"""Counts, differences and p values of the three models, by hand and by simulation."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nuclass_pipeline.config.evaluation import EvaluationConfig
from nuclass_pipeline.config.models import MODELS
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.evaluate.bootstrap import draw_weights, two_sided_p
from nuclass_pipeline.evaluate.comparison import compare_paths, pair
from nuclass_pipeline.evaluate.metrics import accuracy
from nuclass_pipeline.evaluate.predictions import ScoredCells
from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import METRICS
from tests.unit.evaluate.planted import CLASSES, one_hot, write_predictions

LABELS = ["Acinar"] * 4 + ["Ductal"] * 4
LOCAL = [0, 0, 1, 2, 1, 1, 1, 0]
GLOBAL = [0, 1, 0, 2, 1, 1, 0, 1]
GATE = [0, 0, 0, 2, 1, 1, 1, 1]


def _write(root: Path, predicted: dict[str, list[int]], labels: list[str] = LABELS, slide: str = "a") -> list[Path]:
    g = np.linspace(0, 0.7, len(labels))
    return [write_predictions(root, one_hot(predicted[model], 3), labels, model=model, slide=slide, g=g) for model in MODELS]


def _compare(root: Path, files: list[Path], slides: list[str], bootstrap: int = 200) -> pd.DataFrame:
    organs = dict.fromkeys(slides, "lung")
    config = EvaluationConfig(bootstrap=bootstrap)
    compare_paths(predictions=files, seeds=[0], slides=slides, organs=organs, run="r", config=config, complementarity=root / "c.parquet")
    return read_table(root / "c.parquet", METRICS).set_index(["slide", "model", "label", "metric"]).sort_index()


def test_counts_oracle_and_weights_by_hand(tmp_path: Path) -> None:
    rows = _compare(tmp_path, _write(tmp_path, {"local": LOCAL, "global": GLOBAL, "gate": GATE}), ["a"])
    value = rows["value"]["a"]
    counts = {
        label: [value["oracle", label, name] for name in ("both", "local_only", "global_only", "neither")]
        for label in ("all", "Acinar", "Ductal")
    }
    assert counts == {"all": [3, 2, 2, 1], "Acinar": [1, 1, 1, 1], "Ductal": [2, 1, 1, 0]}
    assert value["oracle", "all", "accuracy"] == 7 / 8
    assert value["gate", "all", "accuracy"] == 7 / 8
    assert value["local", "Ductal", "accuracy"] == 3 / 4
    assert value["gate", "Acinar", "mean_gate_weight"] == pytest.approx(0.15)
    assert value["gate", "all", "accuracy_minus_local"] == pytest.approx(2 / 8)
    assert value["gate", "all", "accuracy_gain"] == pytest.approx(2 / 8)
    assert (rows["n_cells"]["a"]["gate", "Acinar", "accuracy"], rows["n_cells"]["a"]["gate", "all", "accuracy"]) == (4, 8)
    assert "T_Cell" not in rows.index.get_level_values("label")


def test_slides_are_pooled(tmp_path: Path) -> None:
    predicted = {"local": LOCAL, "global": GLOBAL, "gate": GATE}
    reverse = {"local": GLOBAL, "global": LOCAL, "gate": GATE}
    pairs = zip(_write(tmp_path, predicted, slide="a"), _write(tmp_path, reverse, slide="b"), strict=True)
    value = _compare(tmp_path, [path for both in pairs for path in both], ["a", "b"])["value"]
    assert [value[slide, "oracle", "Acinar", "both"] for slide in ("a", "b", "pooled")] == [1, 1, 2]
    assert value["pooled", "local", "all", "accuracy"] == 10 / 16


def test_equal_models_differ_by_nothing(tmp_path: Path) -> None:
    rows = _compare(tmp_path, _write(tmp_path, dict.fromkeys(MODELS, LOCAL)), ["a"]).loc[("a", "gate", "all")]
    for metric in ("accuracy_minus_local", "macro_f1_minus_global", "accuracy_gain"):
        assert rows.loc[metric, ["value", "ci_low", "ci_high"]].tolist() == [0, 0, 0]
    assert rows.loc["accuracy_minus_local_p", "value"] == 1


BLOCK = np.repeat(np.arange(40), 60)


def _simulate(rng: np.random.Generator, gate: float) -> dict[str, np.ndarray]:
    """Predict 2400 cells in 40 blocks of unequal difficulty; each path is right with probability 0.7, the gate with `gate`."""
    shift = rng.uniform(-0.15, 0.15, 40)[BLOCK]
    return {m: np.where(rng.random(2400) < p + shift, 0, 1) for m, p in zip(MODELS, (0.7, 0.7, gate), strict=True)}


def test_a_real_gain_is_found(tmp_path: Path) -> None:
    predicted, block = _simulate(np.random.default_rng(0), 0.8), [f"b{b:02}" for b in BLOCK]
    files = [write_predictions(tmp_path, one_hot(predicted[m].tolist(), 3), ["Acinar"] * 2400, model=m, block=block) for m in MODELS]
    rows = _compare(tmp_path, files, ["a"], 500).loc[("a", "gate", "all")]
    difference = rows.loc["accuracy_minus_local"]
    assert difference["ci_low"] < 0.1 < difference["ci_high"]
    assert difference["ci_low"] > 0
    assert rows.loc["accuracy_minus_local_p", "value"] == pytest.approx(2 / 501)


def _scored(predicted: np.ndarray) -> ScoredCells:
    """Return cells of class 0 with these predictions, as if read from a table."""
    zeros = np.zeros(len(predicted))
    truth, blocks = zeros.astype(np.int64), int(BLOCK.max()) + 1
    return ScoredCells(CLASSES, (), np.arange(len(predicted)), truth, one_hot(predicted.tolist(), 3), BLOCK, zeros, blocks)


def test_p_is_honest_when_nothing_differs() -> None:
    rng, small = np.random.default_rng(1), 0
    for trial in range(150):
        predicted = _simulate(rng, 0.7)
        sums = pair(*(_scored(predicted[model]) for model in MODELS), draw_weights(40, 200, [trial]))
        small += two_sided_p(accuracy(sums.confusion[:, 2]) - accuracy(sums.confusion[:, 0])) < 0.1
    assert 0.04 <= small / 150 <= 0.18


def test_cells_of_a_class_that_the_model_lacks_are_right_for_neither_path(tmp_path: Path) -> None:
    # On slide b alone, so that the classes of the slides have to be aligned before they are pooled.
    files = [
        write_predictions(tmp_path, one_hot([0, 1, 1], 3), labels, model=model, slide=slide)
        for model in MODELS
        for slide, labels in (("a", ["Acinar", "Ductal", "Ductal"]), ("b", ["Acinar", "Monocyte", "Monocyte"]))
    ]
    rows = _compare(tmp_path, files, ["a", "b"])
    value = rows["value"]
    assert value["pooled", "oracle", "all", "neither"] == value["b", "oracle", "Monocyte", "neither"] == 2
    assert value["pooled", "gate", "all", "accuracy"] == pytest.approx(4 / 6)
    assert value["pooled", "gate", "Monocyte", "accuracy"] == 0
    assert rows["n_cells"].xs("all", level="label")["pooled"].eq(6).all()
    assert ("a", "oracle", "Monocyte", "neither") not in value.index


def test_files_that_do_not_match_are_refused(tmp_path: Path) -> None:
    predicted = {"local": LOCAL, "global": GLOBAL, "gate": GATE}
    files = _write(tmp_path, predicted)
    write_predictions(tmp_path, one_hot(GLOBAL, 3), LABELS[::-1], model="global")
    with pytest.raises(UserError, match="cells or labels differ"):
        _compare(tmp_path, files, ["a"])
    write_predictions(tmp_path, one_hot(GLOBAL, 3), LABELS, model="global", classes=[*CLASSES[:2], "B_Cell"])
    with pytest.raises(UserError, match="the classes differ from those of the gate"):
        _compare(tmp_path, files, ["a"])
