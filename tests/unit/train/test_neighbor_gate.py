"""The gate of kind `neighbors` through its stage: what is fitted, on which cells, and what its checkpoint predicts."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from nuclass_pipeline.config.models import GateConfig, LocalConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.evaluate.predict import run_models
from nuclass_pipeline.models.checkpoint import CheckpointMetadata
from nuclass_pipeline.models.gate import restore_gate
from nuclass_pipeline.models.neighbors import NeighborGate
from nuclass_pipeline.train.gate import train_gate
from nuclass_pipeline.train.gates.outputs import FeatureFile

CLASSES = ("Acinar", "Ductal", "T_Cell")
NEIGHBORS = GateConfig(kind="neighbors")
META = CheckpointMetadata(
    kind="global", classes=CLASSES, organs=("lung",), mpp=0.25, local_um=56, local=LocalConfig(), backbone={},
    dims={"local": 2, "global": 2, "context": 2}, seed=0,
)  # fmt: skip
CELLS = 1200


def write_slide(folder: Path, seed: int, *, patches: bool, temperature: float = 1.0) -> dict[str, Path]:
    """Write outputs of a path that is right in 6 of 10 cells; with `patches`, cells of one class lie together."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    xy_um = rng.uniform(0, 1000, (CELLS, 2))
    kind = (xy_um[:, 0] // 200 + xy_um[:, 1] // 200).astype(int) % 3 if patches else rng.integers(3, size=CELLS)
    seen = np.where(rng.random(CELLS) < 0.6, kind, rng.integers(3, size=CELLS))
    logits = np.log(0.15 + 0.55 * np.eye(3)[seen]) + rng.normal(0, 0.1, (CELLS, 3))
    p = np.exp(logits / temperature)
    p = (p / p.sum(axis=1, keepdims=True)).astype(np.float32)
    ids = [f"c{number}" for number in range(CELLS)]
    with h5py.File(folder / "cells.h5", "w") as file:
        file.create_dataset("cell_id", data=ids, dtype=h5py.string_dtype())
        for name in ("local", "global"):
            file[f"{name}_feature"], file[f"{name}_p"] = np.zeros((CELLS, 2), np.float16), p
        file["xy_um"], file["image"] = xy_um, np.zeros(CELLS, np.int64)
        file.attrs["meta"] = META.model_dump_json()
    pd.DataFrame({"cell_id": ids, "label": np.array(CLASSES)[kind]}).to_parquet(folder / "labels.parquet")
    subset = np.array(["gate", "val", "heldout"])[np.arange(CELLS) % 3]
    pd.DataFrame({"cell_id": ids, "subset": subset, "block": "0"}).to_parquet(folder / "split.parquet")
    return {name: folder / file for name, file in (("features", "cells.h5"), ("labels", "labels.parquet"), ("splits", "split.parquet"))}


def fit(slides: list[dict[str, Path]], folder: Path, seed: int = 0) -> NeighborGate:
    files: dict[str, Any] = {name: [slide[name] for slide in slides] for name in ("features", "labels", "splits")}
    train_gate(**files, config=NEIGHBORS, seed=seed, checkpoint=folder / "gate.ckpt", history=folder / "history.parquet")
    gate, meta = restore_gate(folder / "gate.ckpt")
    assert isinstance(gate, NeighborGate)
    assert meta.gate == NEIGHBORS
    return gate


def accuracies(slide: dict[str, Path], folder: Path) -> tuple[float, float, float]:
    """Return the accuracy of the global path and of the gate on the held-out cells, and the mean weight of the global path."""
    (_, _, _), (_, _, path_p), (name, g, p) = run_models(FeatureFile.open(slide["features"]), folder / "gate.ckpt")
    assert name == "gate"
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    kind = pd.Index(CLASSES).get_indexer(pd.Index(pd.read_parquet(slide["labels"])["label"]))
    held = pd.read_parquet(slide["splits"])["subset"].to_numpy() == "heldout"
    return ((path_p.argmax(1) == kind)[held].mean(), (p.argmax(1) == kind)[held].mean(), float(g[held].mean()))


def test_neighbors_help_where_cells_of_a_class_lie_together(tmp_path: Path) -> None:
    slides = [write_slide(tmp_path / name, number, patches=True) for number, name in enumerate("ab")]
    fit(slides, tmp_path)
    path, gate, g = accuracies(slides[1], tmp_path)
    assert gate > path + 0.07
    assert g < 0.7


def test_neighbors_get_no_weight_where_they_say_nothing(tmp_path: Path) -> None:
    slides = [write_slide(tmp_path / name, number, patches=False) for number, name in enumerate("ab")]
    fit(slides, tmp_path)
    path, gate, g = accuracies(slides[1], tmp_path)
    assert gate > path - 0.02
    assert g > 0.8


def test_the_temperature_is_found_and_the_prior_is_the_mean(tmp_path: Path) -> None:
    one, other = (fit([write_slide(tmp_path / str(t), 3, patches=True, temperature=t)], tmp_path / str(t)) for t in (1.0, 0.25))
    assert one.temperature.item() == pytest.approx(other.temperature.item() * 0.25, rel=0.02)
    torch.testing.assert_close(one.prior, other.prior, atol=1e-3, rtol=0)
    assert one.prior.sum().item() == pytest.approx(1, abs=1e-5)


def test_it_is_fitted_on_the_gate_subset_alone_and_nothing_is_drawn(tmp_path: Path) -> None:
    slide = write_slide(tmp_path / "a", 4, patches=True)
    first = fit([slide], tmp_path).state_dict()
    labels = pd.read_parquet(slide["labels"])
    labels.loc[np.arange(CELLS) % 3 > 0, "label"] = "T_Cell"
    labels.to_parquet(slide["labels"])
    again = fit([slide], tmp_path, seed=7).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_a_file_without_places_is_refused(tmp_path: Path) -> None:
    slide = write_slide(tmp_path / "a", 4, patches=True)
    with h5py.File(slide["features"], "a") as file:
        del file["image"]
    with pytest.raises(UserError, match=r"cells\.h5: image: the dataset is missing, and the gate of kind neighbors needs it"):
        fit([slide], tmp_path)
    assert not (tmp_path / "gate.ckpt").exists()


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("xy_um", np.full((CELLS, 2), np.nan), "a value is not finite"),
        ("xy_um", np.zeros((CELLS, 3)), r"has the shape \(1200, 3\), not \(1200, 2\)"),
        ("image", np.zeros(5, np.int64), r"has the shape \(5,\), not \(1200,\)"),
    ],
)
def test_places_that_are_not_those_of_the_cells_are_refused(tmp_path: Path, name: str, values: np.ndarray, message: str) -> None:
    slide = write_slide(tmp_path / "a", 4, patches=True)
    with h5py.File(slide["features"], "a") as file:
        del file[name]
        file[name] = values
    with pytest.raises(UserError, match=rf"cells\.h5: {name}: {message}"):
        fit([slide], tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "neighbors", "dropout": 0.2}, "dropout is of another kind than neighbors"),
        ({"neighbor_um": 9}, "neighbor_um is of another"),
        # Because the 28 mm² of 3 mm hold a hundred thousand cells and more.
        ({"kind": "neighbors", "neighbor_um": 101}, "less than or equal to 100"),
    ],
)
def test_keys_of_the_other_kind_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GateConfig(**changes)
