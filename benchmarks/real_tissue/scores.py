"""Scores of all held-out cells of all folds, with intervals by resampling cases."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.real_tissue.folds import Fold
from benchmarks.real_tissue.probes import SlideCells, predict_simply, read_slide
from nuclass_pipeline.arrays import Booleans, Floats, Integers
from nuclass_pipeline.config.models import SCORED_MODELS
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.evaluate.bootstrap import divide, draw_weights, interval, sum_blocks
from nuclass_pipeline.evaluate.metrics import accuracy, macro_f1
from nuclass_pipeline.evaluate.predictions import HELDOUT, ScoredCells, read_scored
from nuclass_pipeline.io import read_table
from nuclass_pipeline.layout import files
from nuclass_pipeline.schemas import PREDICTIONS, SPLIT
from nuclass_pipeline.vocabulary import UNRESOLVED

LOCAL, GLOBAL, GATE = "local path", "global path", "gate"
MEAN = "mean of probabilities of both paths"
ORACLE = "either path right"


@dataclass(frozen=True)
class Heldout:
    """N held-out cells of one fold, or of all folds.

    Attributes
    ----------
    case
        (N,) case of each cell.
    truth
        (N,) index of its class.
    predicted
        Method → (N,) index of the class that it predicts.
    padded
        (N,) whether its context window reaches over the edge of its image.
    """

    case: NDArray[Any]
    truth: Integers
    predicted: Mapping[str, Integers]
    padded: Booleans

    @property
    def either(self) -> Booleans:
        """(N,) whether the local or the global path is right."""
        right: Booleans = (self.predicted[LOCAL] == self.truth) | (self.predicted[GLOBAL] == self.truth)
        return right


def pool_folds(folds: Sequence[Fold], subsets: Sequence[str]) -> Heldout:
    """Return the held-out cells of all folds with the predictions of every method.

    Parameters
    ----------
    folds
        Folds that have run.
    subsets
        Subsets of the training slides that the probes are fitted on.

    Raises
    ------
    UserError
        If files of a fold are missing, broken or not of one run.
    """
    slides = {slide: read_slide(folds[0], slide) for slide in folds[0].run.cohort_slides}
    found = []
    for number, fold in enumerate(folds, start=1):
        print(f"{fold.run.config.run}: probes and scores, {number} of {len(folds)}", flush=True)
        found.append(_read_fold(fold, slides, subsets))
    predicted = {name: np.concatenate([one.predicted[name] for one in found]) for name in found[0].predicted}
    case, truth, padded = (np.concatenate([getattr(one, name) for one in found]) for name in ("case", "truth", "padded"))
    return Heldout(case, truth, predicted, padded)


def _read_fold(fold: Fold, slides: Mapping[str, SlideCells], subsets: Sequence[str]) -> Heldout:
    models = [read_scored(fold.predictions(model), HELDOUT) for model in SCORED_MODELS]
    local, global_, gate = models
    for model, cells in zip(SCORED_MODELS, models, strict=True):
        if cells.labels != gate.classes or not np.array_equal(cells.cell_id, gate.cell_id):
            raise UserError(
                fold.predictions(model), "cell_id", "cells or classes differ from those of the gate", "Remove it and run again."
            )
    held, names = slides[fold.heldout], pd.Index(gate.classes)
    rows = pd.Index(held.cell_id).get_indexer(pd.Index(gate.cell_id))
    train = [slides[slide] for slide in fold.run.training_slides]
    chosen = [_in_subsets(fold, slide, slides[slide], subsets) for slide in fold.run.training_slides]
    simple = {name: names.get_indexer(pd.Index(found[rows])) for name, found in predict_simply(train, chosen, held).items()}
    padded = read_table(fold.predictions("gate"), PREDICTIONS, ["cell_id", "padded"]).set_index("cell_id")["padded"]
    return Heldout(held.case[rows], gate.truth, simple | _paths(local, global_, gate), padded.reindex(gate.cell_id).to_numpy(bool))


def _paths(local: ScoredCells, global_: ScoredCells, gate: ScoredCells) -> dict[str, Integers]:
    proba = {LOCAL: local.proba, GLOBAL: global_.proba, MEAN: (local.proba + global_.proba) / 2, GATE: gate.proba}
    return {name: values.argmax(axis=1) for name, values in proba.items()}


def _in_subsets(fold: Fold, slide: str, cells: SlideCells, subsets: Sequence[str]) -> Booleans:
    split = read_table(fold.file(files.split, slide=slide), SPLIT).set_index("cell_id")["subset"].reindex(cells.cell_id)
    chosen: Booleans = split.isin(subsets).to_numpy() & (cells.label != UNRESOLVED)
    return chosen


def compare(pooled: Sequence[Heldout], classes: int, draws: int, seed: int = 0) -> pd.DataFrame:
    """Return the scores of every method, as the mean over several divisions into folds.

    Parameters
    ----------
    pooled
        The held-out cells of each division, which share their cases.
    classes
        Number of classes.
    draws, seed
        Resamples of the cases, which all methods and divisions share, and their seed.

    Returns
    -------
    DataFrame
        `method`, `macro_f1`, `accuracy` and `difference`, which is the macro-F1 less that of the local path; each with the bounds of its
        95 % interval in `…_low` and `…_high`. Where either path is right there is no macro-F1.
    """
    cases = sorted({case for one in pooled for case in one.case})
    weights = draw_weights(len(cases), draws, [seed])
    scores = np.mean([_score(one, cases, classes, weights) for one in pooled], axis=0)
    f1, right = scores[:, 0], scores[:, 1]
    methods = [*pooled[0].predicted, ORACLE]
    difference = f1 - f1[:, [methods.index(LOCAL)]]
    columns: dict[str, Floats] = {}
    for name, values in (("macro_f1", f1), ("accuracy", right), ("difference", difference)):
        low, high = interval(values)
        columns |= {name: values[0], f"{name}_low": low, f"{name}_high": high}
    frame = pd.DataFrame({"method": methods, **columns})
    # Without a value, because the local path does not differ from itself.
    frame.loc[frame["method"] == LOCAL, ["difference", "difference_low", "difference_high"]] = np.nan
    return frame


def _score(one: Heldout, cases: Sequence[str], classes: int, weights: Floats) -> Floats:
    """Return macro-F1 and accuracy of every method, and last of either path, in every resample: (1 + draws, 2, methods)."""
    case = pd.Index(cases).get_indexer(pd.Index(one.case))
    scores = [*_by_method(one, case, classes, weights)]
    cells, right = (weights @ sum_blocks(case, np.zeros_like(case), len(cases), 1, values) for values in (None, one.either))
    scores.append(np.stack([np.full(len(weights), np.nan), divide(right, cells)[:, 0]]))
    return np.stack(scores, axis=2).transpose(1, 0, 2)


def _by_method(one: Heldout, case: Integers, classes: int, weights: Floats) -> Iterator[Floats]:
    for predicted in one.predicted.values():
        sums = weights @ sum_blocks(case, one.truth * classes + predicted, weights.shape[1], classes**2)
        confusion = sums.reshape(-1, classes, classes)
        yield np.stack([macro_f1(confusion), accuracy(confusion)])
