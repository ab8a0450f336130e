"""Predictions as arrays: the cells that can be scored, and the numbers of those that cannot."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from nuclass_pipeline.arrays import Booleans, Floats, Integers
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import PREDICTIONS
from nuclass_pipeline.vocabulary import UNRESOLVED

PREFIX = "p_"
# Not closer to 0, because half-precision probabilities of 22 classes add up to 1 only within about this.
_SUM_TOLERANCE = 0.01
# The smallest normal float32, because the log of a probability that underflowed must stay finite.
MIN_PROBABILITY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class ScoredCells:
    """The N cells of one slide whose label is a class of the model, with the model's predictions.

    Attributes
    ----------
    classes
        K classes of the model, in the order of its columns.
    cell_id
        (N,) cell ids.
    truth
        (N,) indices of the labels in `classes`.
    proba
        (N, K) probabilities; rows add up to 1.
    block
        (N,) indices of the spatial blocks, 0 … blocks − 1.
    g
        (N,) weights of the global path.
    unseen
        Number of cells of each label that is not a class of the model.
    """

    classes: tuple[str, ...]
    cell_id: NDArray[Any]
    truth: Integers
    proba: Floats
    block: Integers
    g: Floats
    unseen: Mapping[str, int]

    @property
    def blocks(self) -> int:
        """Number of spatial blocks."""
        return int(self.block.max()) + 1 if len(self.block) else 0

    @property
    def present(self) -> Booleans:
        """(K,) whether a class occurs among the labels."""
        return np.bincount(self.truth, minlength=len(self.classes)) > 0


def read_scored(path: Path, subset: Literal["val", "heldout"]) -> ScoredCells:
    """Read the cells of `subset` that can be scored.

    Raises
    ------
    UserError
        If the slide is held out and `subset` is `val`, or the other way round; or if a row holds no probabilities.
    """
    frame = read_table(path, PREDICTIONS)
    heldout = frame["subset"].eq("heldout")
    # An error and not a filter, because a held-out cell in calibration, or a training cell among the scores, is a leak.
    if subset == "heldout" and not heldout.all():
        problem = f"{int((~heldout).sum())} cells belong to a training slide"
        raise UserError(path, "subset", problem, "Score held-out slides only: see study.heldout.")
    if subset == "val" and heldout.any():
        raise UserError(path, "subset", f"{int(heldout.sum())} cells are held out", "Calibrate on training slides only: see study.train.")
    return _to_scored(frame[frame["subset"] == subset], path)


def _to_scored(frame: pd.DataFrame, path: Path) -> ScoredCells:
    columns = [name for name in frame if str(name).startswith(PREFIX)]
    classes = tuple(str(name).removeprefix(PREFIX) for name in columns)
    if not classes:
        raise UserError(path, f"{PREFIX}<class>", "there is no column of probabilities", "Remove it and run again.")
    known = frame["label"].isin(classes)
    unseen = Counter(frame.loc[~known & frame["label"].ne(UNRESOLVED), "label"])
    frame = frame[known]
    return ScoredCells(
        classes,
        frame["cell_id"].to_numpy(),
        pd.Index(classes).get_indexer(pd.Index(frame["label"])).astype(np.int64),
        _checked(frame[columns].to_numpy(np.float64), path),
        pd.factorize(frame["block"], sort=True)[0].astype(np.int64),
        frame["gate_weight"].to_numpy(np.float64),
        unseen,
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
