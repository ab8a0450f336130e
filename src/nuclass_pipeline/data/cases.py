"""Assignment of whole cases to subsets or folds, so that all have nearly the same mix of classes."""

from collections.abc import Mapping

import numpy as np

from nuclass_pipeline.arrays import Floats, Integers

MAX_SWEEPS = 50
"""Sweeps over the cases; a few suffice, and each one lowers the deviation."""
MIN_GAIN = 1e-9
"""Smallest fall of the deviation that counts, far above the error of rounding."""


def assign_cases(counts: Integers, shares: Floats, least: int = 1) -> Integers:
    """Return the subset of each case, (C,), so that the cells of each class are near the shares.

    The largest cases are placed first, then cases are moved and exchanged as long as the deviation falls. Nothing is drawn at random.

    Parameters
    ----------
    counts
        Cells of each case and class, (C, K); at least `least` cases for each subset.
    shares
        Share of each subset, (S,), which sum to 1.
    least
        Cases that each subset gets.
    """
    # By class, because a rare class must be in every subset as a common one is.
    share = counts / np.maximum(counts.sum(axis=0), 1)
    subsets = np.full(len(share), -1)
    for left, case in zip(range(len(share), 0, -1), np.argsort(-share.sum(axis=1), kind="stable"), strict=True):
        wanting = least - np.bincount(subsets[subsets >= 0], minlength=len(shares))
        must = np.clip(wanting, 0, None).sum() >= left
        allowed = np.flatnonzero(wanting > 0) if must else np.arange(len(shares))
        deviations = [_deviation(np.where(np.arange(len(subsets)) == case, subset, subsets), share, shares) for subset in allowed]
        subsets[case] = allowed[int(np.argmin(deviations))]
    for _ in range(MAX_SWEEPS):
        if not _improve(subsets, share, shares, least):
            break
    return subsets


def _deviation(subsets: Integers, share: Floats, shares: Floats) -> float:
    filled = (subsets == np.arange(len(shares))[:, None]).astype(float) @ share
    # Relative to the share, because ten cells too many weigh more in a small subset.
    return float((((filled - shares[:, None]) ** 2) / shares[:, None]).sum())


def _improve(subsets: Integers, share: Floats, shares: Floats, least: int) -> bool:
    """Move or exchange cases where that lowers the deviation; return whether any was."""
    improved, best = False, _deviation(subsets, share, shares)
    for case in range(len(subsets)):
        for trial in [*_moves(subsets, case, len(shares), least), *_exchanges(subsets, case)]:
            if (value := _deviation(trial, share, shares)) < best - MIN_GAIN:
                subsets[:], best, improved = trial, value, True
    return improved


def _moves(subsets: Integers, case: int, number: int, least: int) -> list[Integers]:
    if (subsets == subsets[case]).sum() <= least:
        return []
    return [_with(subsets, {case: subset}) for subset in range(number) if subset != subsets[case]]


def _exchanges(subsets: Integers, case: int) -> list[Integers]:
    others = np.flatnonzero(subsets != subsets[case])
    return [_with(subsets, {case: subsets[other], int(other): subsets[case]}) for other in others if other > case]


def _with(subsets: Integers, changes: Mapping[int, int | np.integer]) -> Integers:
    changed = subsets.copy()
    changed[list(changes)] = list(changes.values())
    return changed
