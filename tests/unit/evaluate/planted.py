"""Prediction tables with known content."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nuclass_pipeline.io import write_table
from nuclass_pipeline.schemas import PREDICTIONS

CLASSES = ("Acinar", "Ductal", "T_Cell")


def write_predictions(
    root: Path,
    proba: NDArray[np.float64],
    labels: Sequence[str],
    *,
    model: str = "gate",
    seed: int = 0,
    slide: str = "a",
    subset: str | Sequence[str] = "heldout",
    block: Sequence[str] | None = None,
    g: float | Sequence[float] = 0.5,
    classes: Sequence[str] = CLASSES,
) -> Path:
    cells = len(proba)
    frame = pd.DataFrame(
        {
            "cell_id": [f"c{i}" for i in range(cells)],
            "label": list(labels),
            "subset": subset,
            "block": block if block is not None else [f"b{i % 7}" for i in range(cells)],
            "x_um": np.arange(cells, dtype=float),
            "y_um": 0.0,
            "padded": False,
            "predicted": np.asarray(classes)[proba.argmax(axis=1)],
            "gate_weight": g,
        }
    )
    for index, name in enumerate(classes):
        frame[f"p_{name}"] = proba[:, index]
    path = root / "predictions/base" / model / f"seed-{seed}" / f"{slide}.parquet"
    write_table(frame, path, PREDICTIONS)
    return path


def random_proba(rng: np.random.Generator, cells: int, classes: int, spread: float = 2.0) -> NDArray[np.float64]:
    logits = rng.normal(scale=spread, size=(cells, classes))
    power = np.exp(logits - logits.max(axis=1, keepdims=True))
    return power / power.sum(axis=1, keepdims=True)


def draw_labels(rng: np.random.Generator, proba: NDArray[np.float64]) -> NDArray[np.int64]:
    return (proba.cumsum(axis=1) > rng.random((len(proba), 1))).argmax(axis=1)


def one_hot(indices: Sequence[int], classes: int, sure: float = 0.8) -> NDArray[np.float64]:
    proba = np.full((len(indices), classes), (1 - sure) / (classes - 1))
    proba[np.arange(len(indices)), indices] = sure
    return proba
