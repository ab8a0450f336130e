"""Simple classifiers of the same cells as the chain's: the majority class, a colour histogram, and linear probes on its features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.real_tissue.folds import Fold
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import open_h5, read_table
from nuclass_pipeline.layout import files
from nuclass_pipeline.schemas import CELLS, LABELS
from nuclass_pipeline.train.dataset import read_ids
from nuclass_pipeline.train.patch_reader import CacheBudget, FeatureReader, PatchReader

HISTOGRAM_UM = 16.0
"""Side of the crop whose colours are counted, µm: the nucleus and what touches it."""
BINS = 8
BLOCK_ROWS = 512
MAX_ITERATIONS = 5000
MAJORITY = "majority class"
PROBES: dict[str, tuple[tuple[str, ...], float]] = {
    "colour histogram": (("histogram",), 0.1),
    "linear probe, local features": (("local",), 0.003),
    "linear probe, context features": (("context",), 0.003),
    "linear probe, both": (("local", "context"), 0.003),
}
"""Name → the features of a probe, and the inverse strength of its ridge."""


@dataclass(frozen=True)
class SlideCells:
    """The N cells of a slide, in the order of its cell table.

    Attributes
    ----------
    cell_id, case, label
        (N,) id, case and class of each cell.
    features
        Name → (N, D) float32: `local`, `context` and `histogram`.
    """

    cell_id: NDArray[Any]
    case: NDArray[Any]
    label: NDArray[Any]
    features: Mapping[str, NDArray[np.float32]]


def read_slide(fold: Fold, slide: str) -> SlideCells:
    """Read the cells of a slide with their cases, classes and features.

    Raises
    ------
    UserError
        If a file is missing or broken, or lacks a cell.
    """
    cells = read_table(fold.file(files.cells, slide=slide), CELLS)
    ids = pd.Index(cells["cell_id"])
    labels = read_table(fold.file(files.labels, slide=slide), LABELS, ["cell_id", "label"]).set_index("cell_id")["label"]
    features = {}
    for name, path in fold.features(slide).items():
        rows = pd.Index(read_ids(path)).get_indexer(ids)
        if (rows < 0).any():
            raise UserError(path, "cell_id", f"no features for {(rows < 0).sum()} cells", "Remove the file and run again.")
        features[name] = FeatureReader(path, rows).read(np.arange(len(rows))).numpy()
    features["histogram"] = read_histograms(fold, slide, ids)
    return SlideCells(ids.to_numpy(), cells["case"].to_numpy(), labels.reindex(ids).to_numpy(), features)


def read_histograms(fold: Fold, slide: str, ids: "pd.Index[str]") -> NDArray[np.float32]:
    """Return the colour histogram around each cell, (N, 24), from the middle of its local crop."""
    path, image = fold.file(files.local_patches, slide=slide), fold.run.config.image
    side = round(HISTOGRAM_UM / image.mpp)
    margin = (image.local_px - side) // 2
    if margin < 0:
        problem = f"{image.local_um:g} µm is smaller than the {HISTOGRAM_UM:g} µm of the histogram"
        raise UserError(fold.run_file, "image.local_um", problem, f"Set it to {HISTOGRAM_UM:g} or more.")
    with open_h5(path) as file:
        rows = pd.Index(file["keys"].asstr()[:]).get_indexer(ids)
    crops = PatchReader(path, rows, image.local_px, CacheBudget(0))
    blocks = np.array_split(np.arange(len(rows)), max(1, len(rows) // BLOCK_ROWS))
    middle = slice(margin, margin + side)
    return np.concatenate([histograms(crops.read(block).permute(0, 2, 3, 1).numpy()[:, middle, middle]) for block in blocks])


def histograms(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the histogram of each colour of each crop: (N, S, S, 3) to (N, 3 · 8), in pixels."""
    codes = crops.reshape(len(crops), -1, 3) // (256 // BINS)
    counts = np.stack([(codes == level).sum(axis=1) for level in range(BINS)], axis=2)
    return counts.reshape(len(crops), -1).astype(np.float32)


def predict_simply(train: Sequence[SlideCells], rows: Sequence[NDArray[np.bool_]], test: SlideCells) -> dict[str, NDArray[Any]]:
    """Return the classes (N,) that the majority class and each probe give to the cells of a slide.

    Parameters
    ----------
    train, rows
        Slides that the probes are fitted on, and which of their cells.
    test
        Another slide.
    """
    classes = np.concatenate([slide.label[chosen] for slide, chosen in zip(train, rows, strict=True)])
    predicted = {MAJORITY: np.full(len(test.label), pd.Series(classes).mode()[0], dtype=object)}
    for name, (parts, strength) in PROBES.items():
        fitted = np.concatenate([_joined(slide, parts)[chosen] for slide, chosen in zip(train, rows, strict=True)])
        predicted[name] = make_probe(strength).fit(fitted, classes).predict(_joined(test, parts))
    return predicted


def make_probe(strength: float) -> Pipeline:
    """Return a logistic regression on standardised features, with the classes weighted alike."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, class_weight="balanced", max_iter=MAX_ITERATIONS))


def _joined(slide: SlideCells, parts: Sequence[str]) -> NDArray[np.float32]:
    return np.concatenate([slide.features[part] for part in parts], axis=1)
