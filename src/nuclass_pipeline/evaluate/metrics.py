"""Scores from sums over cells, for the data and all their resamples at once."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np

from nuclass_pipeline.arrays import Floats, Integers
from nuclass_pipeline.evaluate.bootstrap import divide, sum_blocks
from nuclass_pipeline.models.temperature import MIN_PROBABILITY

PER_CLASS = ("f1", "precision", "recall")


@dataclass(frozen=True)
class Tally:
    """Sums over cells; the leading axis L is blocks, or resamples of them.

    Attributes
    ----------
    confusion
        (L, K, K) cells by true class (rows) and predicted class.
    bins
        (L, 3, B) cells, summed confidence and right answers by bin of confidence.
    losses
        (L, 3) summed Brier score, summed negative log-likelihood (nats), and the cells in that: those whose class the model has.
    """

    confusion: Floats
    bins: Floats
    losses: Floats

    def resample(self, weights: Floats) -> "Tally":
        """Return sums over resamples from sums over blocks; `weights` is (resamples, blocks)."""
        return Tally(*(np.tensordot(weights, sums, axes=1) for sums in (self.confusion, self.bins, self.losses)))

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.confusion + other.confusion, self.bins + other.bins, self.losses + other.losses)


def pool(tallies: list[Tally]) -> Tally:
    """Return the sums over all slides."""
    return reduce(add, tallies)


def bin_of(confidence: Floats, bins: int) -> Integers:
    """Return the equal-width bin on [0, 1] of each confidence; bins are right-open except the last."""
    return np.minimum((confidence * bins).astype(np.int64), bins - 1)


def tally_blocks(truth: Integers, proba: Floats, block: Integers, *, blocks: int, bins: int, labels: int | None = None) -> Tally:
    """Return the sums over the cells of each block that the scores need.

    Parameters
    ----------
    truth, block
        (N,) class index and block index. A class from K on is one that the model lacks: its cells are errors.
    proba
        (N, K) probabilities.
    blocks, bins
        Number of blocks and of bins of confidence.
    labels
        Number of classes, those included that the model lacks; K if omitted.
    """
    cells, classes = proba.shape
    labels = labels or classes
    predicted, confidence = proba.argmax(axis=1), proba.max(axis=1)
    known = truth < classes
    truth_p = np.where(known, proba[np.arange(cells), np.minimum(truth, classes - 1)], 0.0)
    losses = (brier_scores(proba, truth_p), np.where(known, -np.log(np.maximum(truth_p, MIN_PROBABILITY)), 0.0), known)
    code, zero = bin_of(confidence, bins), np.zeros(cells, np.int64)
    return Tally(
        sum_blocks(block, truth * labels + predicted, blocks, labels**2).reshape(blocks, labels, labels),
        np.stack([sum_blocks(block, code, blocks, bins, values) for values in (None, confidence, predicted == truth)], axis=1),
        np.hstack([sum_blocks(block, zero, blocks, 1, values) for values in losses]),
    )


def brier_scores(proba: Floats, truth_p: Floats) -> Floats:
    """Return (N,) the Brier score of each cell, from its probabilities (N, K) and that of its class (N,), 0 where the model lacks it."""
    # Σ_k (p_k − y_k)² expanded, because a one-hot matrix would double the memory.
    scores: Floats = (proba**2).sum(axis=1) - 2 * truth_p + 1
    return scores


def score_overall(tally: Tally) -> Floats:
    """Return the scores named in `OVERALL`: (L, scores)."""
    return np.column_stack([score(tally) for score in OVERALL.values()])


def score_classes(tally: Tally) -> Floats:
    """Return the scores named in `PER_CLASS`: (L, 3, K).

    NaN where the truth has no cell of the class; precision is 0 where the class was never predicted.
    """
    hits = np.diagonal(tally.confusion, axis1=1, axis2=2)
    support, predicted = tally.confusion.sum(axis=2), tally.confusion.sum(axis=1)
    f1, recall = divide(2 * hits, support + predicted), divide(hits, support)
    # 0 and not NaN, because a class that is never predicted is a failure of the model.
    precision = np.where(predicted > 0, divide(hits, predicted), 0.0)
    return np.where(support[:, None] > 0, np.stack([f1, precision, recall], axis=1), np.nan)


def _per_cell(sums: Floats, tally: Tally) -> Floats:
    return divide(sums, tally.confusion.sum(axis=(1, 2)))


def weighted_f1(tally: Tally) -> Floats:
    """Return (L,) the F1 of the classes, weighted by their cells."""
    support = tally.confusion.sum(axis=2)
    return _per_cell(np.where(support > 0, support * score_classes(tally)[:, 0], 0).sum(axis=1), tally)


def balanced_accuracy(tally: Tally) -> Floats:
    """Return (L,) the mean recall of the classes that occur."""
    return _macro(score_classes(tally)[:, 2])


def calibration_error(tally: Tally) -> Floats:
    """Return (L,) the ECE, Σ_b n_b/N · |accuracy_b − confidence_b|, over the highest probability."""
    return _per_cell(abs(tally.bins[:, 2] - tally.bins[:, 1]).sum(axis=1), tally)


def macro_f1(confusion: Floats) -> Floats:
    """Return (L,) the mean F1 of the classes that occur; `confusion` is (L, K, K)."""
    empty = np.empty((len(confusion), 3, 0))
    return _macro(score_classes(Tally(confusion, empty, empty[:, 0]))[:, 0])


def accuracy(confusion: Floats) -> Floats:
    """Return (L,) the share of cells on the diagonal; `confusion` is (L, K, K)."""
    return divide(np.trace(confusion, axis1=1, axis2=2), confusion.sum(axis=(1, 2)))


def _macro(values: Floats) -> Floats:
    known = np.isfinite(values)
    return divide(np.where(known, values, 0).sum(axis=1), known.sum(axis=1))


def matthews_correlation(confusion: Floats) -> Floats:
    """Return (L,) the multi-class correlation coefficient of Gorodkin (2004); 0 where it is undefined."""
    truth, predicted, total = confusion.sum(axis=2), confusion.sum(axis=1), confusion.sum(axis=(1, 2))
    covariance = np.trace(confusion, axis1=1, axis2=2) * total - (truth * predicted).sum(axis=1)
    spread = (total**2 - (truth**2).sum(axis=1)) * (total**2 - (predicted**2).sum(axis=1))
    # At least 0, because rounding can take the product just below 0.
    correlation = divide(covariance, np.sqrt(np.maximum(spread, 0)))
    return np.where(spread == 0, 0.0, correlation)


OVERALL: dict[str, Callable[[Tally], Floats]] = {
    "accuracy": lambda tally: accuracy(tally.confusion),
    "macro_f1": lambda tally: macro_f1(tally.confusion),
    "weighted_f1": weighted_f1,
    "balanced_accuracy": balanced_accuracy,
    "mcc": lambda tally: matthews_correlation(tally.confusion),
    "ece": calibration_error,
    "brier": lambda tally: _per_cell(tally.losses[:, 0], tally),
    "nll": lambda tally: divide(tally.losses[:, 1], tally.losses[:, 2]),
}
"""Score over all classes → its function of the summed cells, (L,). The Brier score is the sum over classes, 0 to 2."""
