"""Bootstrap over spatial blocks instead of cells, because neighbouring cells are not independent."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclass_pipeline.arrays import Floats, Integers

COVERAGE = 0.95


def draw_weights(blocks: int, times: int, seed: Sequence[int]) -> Floats:
    """Draw how often each block occurs in each resample.

    Parameters
    ----------
    blocks
        Number of blocks.
    times
        Number of resamples; 0 for none.
    seed
        Seed of the draw. Models with the same seed get the same resamples, which pairs their scores.

    Returns
    -------
    Floats
        (1 + times, blocks). Row 0 is all ones, for the data themselves. With a single block the spread between blocks is
        unknown, and all other rows are NaN.
    """
    weights = np.ones((1 + times, blocks))
    if blocks < 2:
        weights[1:] = np.nan
    else:
        weights[1:] = np.random.default_rng(list(seed)).multinomial(blocks, np.full(blocks, 1 / blocks), size=times)
    return weights


def sum_blocks(block: Integers, code: Integers, blocks: int, codes: int, values: NDArray[Any] | None = None) -> Floats:
    """Return the sums of `values` over the cells of each block and code.

    Parameters
    ----------
    block, code
        (N,) indices of each cell.
    blocks, codes
        Numbers of blocks and of codes.
    values
        (N,) values; 1 for every cell if omitted.

    Returns
    -------
    Floats
        (blocks, codes).
    """
    flat = np.bincount(block * codes + code, weights=values, minlength=blocks * codes)
    return flat.reshape(blocks, codes).astype(float)


def divide(above: Floats, below: Floats) -> Floats:
    """Return above / below, arrays of one shape; NaN where `below` is 0 or NaN."""
    quotient: Floats = np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
    return quotient


def interval(values: Floats) -> tuple[Floats, Floats]:
    """Return the percentile interval of each column.

    Parameters
    ----------
    values
        (1 + times, columns); row 0 is the estimate.

    Returns
    -------
    low, high
        (columns,) bounds. NaN where at most half of the resamples define the score.
    """
    resampled = values[1:]
    low, high = np.full((2, values.shape[1]), np.nan)
    known = np.isfinite(resampled).sum(axis=0) * 2 > len(resampled)
    if known.any():
        tail = (1 - COVERAGE) / 2
        low[known], high[known] = np.nanquantile(resampled[:, known], [tail, 1 - tail], axis=0)
    return low, high


def two_sided_p(difference: Floats) -> float:
    """Return the two-sided bootstrap p that a paired difference is zero.

    Parameters
    ----------
    difference
        (1 + times,); row 0 is the estimate.

    Returns
    -------
    float
        ``2 min(P(d* ≤ 0), P(d* ≥ 0))`` with one added to counts and resamples (Davison & Hinkley 1997, eq. 4.11), so
        it is never 0; NaN without resamples.
    """
    resampled = difference[1:][np.isfinite(difference[1:])]
    if not len(resampled):
        return float("nan")
    fewer = min((resampled <= 0).sum(), (resampled >= 0).sum())
    return float(min(1.0, 2 * (fewer + 1) / (len(resampled) + 1)))
