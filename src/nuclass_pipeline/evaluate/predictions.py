"""Predictions as arrays: the cells that have a label, those of classes that the model lacks included."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from nuclass_pipeline.arrays import Booleans, Floats, Integers
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_table
from nuclass_pipeline.models.temperature import MIN_PROBABILITY
from nuclass_pipeline.schemas import PREDICTIONS
from nuclass_pipeline.vocabulary import UNRESOLVED

PREFIX = "p_"
# Not closer to 0, because half-precision probabilities of 22 classes add up to 1 only within about this.
_SUM_TOLERANCE = 0.01
TRAINING_SUBSETS = ("train", "gate", "val", "buffer")
HELDOUT = ("heldout",)


@dataclass(frozen=True)
class ScoredCells:
    """The N labelled cells of one slide, with the model's predictions.

    Attributes
    ----------
    classes
        K classes of the model, in the order of its columns.
    unseen
        Labels that are no class of the model; they follow `classes` in the indices of `truth`.
    cell_id
        (N,) cell ids.
    truth
        (N,) indices of the labels in `classes` and `unseen`.
    proba
        (N, K) probabilities; rows add up to 1.
    block
        (N,) indices of the spatial blocks, 0 … blocks − 1.
    g
        (N,) weights of the global path.
    blocks
        Number of spatial blocks.
    """

    classes: tuple[str, ...]
    unseen: tuple[str, ...]
    cell_id: NDArray[Any]
    truth: Integers
    proba: Floats
    block: Integers
    g: Floats
    blocks: int

    @property
    def labels(self) -> tuple[str, ...]:
        """Classes of the model, and the labels that it lacks."""
        return (*self.classes, *self.unseen)

    @property
    def known(self) -> "ScoredCells":
        """The cells whose label is a class of the model."""
        return self.at(self.truth < len(self.classes))

    @property
    def present(self) -> Booleans:
        """(K,) whether a class occurs among the labels."""
        return np.bincount(self.known.truth, minlength=len(self.classes)) > 0

    def at(self, rows: Booleans) -> "ScoredCells":
        """Return some of the cells; the blocks keep their numbers."""
        # Not copied, because another order in memory rounds sums differently.
        if rows.all():
            return self
        arrays = {name: getattr(self, name)[rows] for name in ("cell_id", "truth", "proba", "block", "g")}
        return replace(self, **arrays)


def read_scored(path: Path, subsets: Sequence[str]) -> ScoredCells:
    """Read the labelled cells of some subsets.

    Parameters
    ----------
    path
        Table `PREDICTIONS`.
    subsets
        `HELDOUT`, or some of `TRAINING_SUBSETS`.

    Raises
    ------
    UserError
        If the slide is held out and `subsets` are of training slides, or the other way round; or if a row holds no probabilities.
    """
    frame = read_table(path, PREDICTIONS)
    # An error and not a filter, because a held-out cell in calibration, or a training cell among the scores, is a leak.
    if subsets == HELDOUT and (training := int(frame["subset"].isin(TRAINING_SUBSETS).sum())):
        raise UserError(path, "subset", f"{training} cells belong to a training slide", "Score held-out slides only: see study.heldout.")
    if subsets != HELDOUT and (held := int(frame["subset"].isin(HELDOUT).sum())):
        raise UserError(path, "subset", f"{held} cells are held out", "Calibrate on training slides only: see study.train.")
    return to_scored(frame, path, subsets)


def align_labels(slides: Mapping[str, ScoredCells]) -> dict[str, ScoredCells]:
    """Return slides whose `unseen` are the same, the labels that the model lacks on any of them, so that their sums can be added."""
    joined = {label for cells in slides.values() for label in cells.unseen}
    return {slide: with_labels(cells, joined) for slide, cells in slides.items()}


def with_labels(cells: ScoredCells, labels: Iterable[str]) -> ScoredCells:
    """Return the cells with these labels among `unseen`, save classes of the model."""
    unseen = tuple(sorted({*cells.unseen, *labels} - set(cells.classes)))
    places = pd.Index([*cells.classes, *unseen]).get_indexer(pd.Index(cells.labels))
    return replace(cells, unseen=unseen, truth=places[cells.truth].astype(np.int64))


def to_scored(frame: pd.DataFrame, path: Path, subsets: Sequence[str]) -> ScoredCells:
    """Return the labelled cells of some subsets of a table `PREDICTIONS`; `path` names it in messages."""
    frame = frame[frame["subset"].isin(subsets) & frame["label"].ne(UNRESOLVED)]
    columns = [name for name in frame if str(name).startswith(PREFIX)]
    classes = tuple(str(name).removeprefix(PREFIX) for name in columns)
    if not classes:
        raise UserError(path, f"{PREFIX}<class>", "there is no column of probabilities", "Remove it and run again.")
    unseen = tuple(sorted(set(frame["label"]) - set(classes)))
    block, names = pd.factorize(frame["block"], sort=True)
    return ScoredCells(
        classes,
        unseen,
        frame["cell_id"].to_numpy(),
        pd.Index([*classes, *unseen]).get_indexer(pd.Index(frame["label"])).astype(np.int64),
        _checked(frame[columns].to_numpy(np.float64), path),
        block.astype(np.int64),
        frame["gate_weight"].to_numpy(np.float64),
        len(names),
    )


def _checked(proba: Floats, path: Path) -> Floats:
    total = proba.sum(axis=1, keepdims=True)
    if not (np.isfinite(proba).all() and (proba >= 0).all() and (abs(total - 1) < _SUM_TOLERANCE).all()):
        raise UserError(path, f"{PREFIX}<class>", "the values of a row are not probabilities that add up to 1", "Remove it and run again.")
    normalized: Floats = proba / total
    return normalized


def adjust(proba: Floats, temperature: float = 1.0, present: Booleans | None = None) -> Floats:
    """Return softmax(log p / T), over the `present` classes alone if they are given.

    Parameters
    ----------
    proba
        (N, K) probabilities.
    temperature
        T > 0; above 1 it softens (Guo et al. 2017, on log-probabilities instead of logits, which is the same up to
        a constant that softmax removes).
    present
        (K,) classes to keep; the others get probability 0 and the rest add up to 1.

    Returns
    -------
    Floats
        (N, K).
    """
    logits = np.log(np.maximum(proba, MIN_PROBABILITY)) / temperature
    if present is not None:
        logits[:, ~present] = -np.inf
    adjusted: Floats = softmax(logits, axis=1)
    return adjusted


def by_model(
    predictions: Sequence[Path | str], models: Sequence[str], seeds: Sequence[int], slides: Sequence[str]
) -> dict[tuple[str, int], dict[str, Path]]:
    """Return the prediction files by model and seed, then by slide.

    Parameters
    ----------
    predictions
        ``predictions/<model>/seed-<n>/<slide>.parquet`` for every model, seed and slide; the slide changes fastest, as in
        ``expand(…, model=models, seed=seeds, slide=slides)``.
    models, seeds, slides
        Their models, seeds and slides.

    Raises
    ------
    UserError
        If a path differs from its place in the list, because scores would then carry the wrong name.
    """
    files: dict[tuple[str, int], dict[str, Path]] = {}
    for path, (model, seed, slide) in zip(map(Path, predictions), product(models, seeds, slides), strict=True):
        if path.parts[-3:] != (model, f"seed-{seed}", f"{slide}.parquet"):
            raise UserError(
                path,
                "path",
                f"expected …/{model}/seed-{seed}/{slide}.parquet here",
                "Order the predictions by model, then seed, then slide.",
            )
        files.setdefault((model, seed), {})[slide] = path
    return files
