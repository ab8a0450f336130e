"""Non-negative factors of expression: X ≈ W H, with or without a graph in the objective."""

import logging
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.decomposition import NMF

from nuclass_pipeline.arrays import Floats

logger = logging.getLogger(__name__)

MAX_ROUNDS = 500
"""Rounds after which a factorisation stops, converged or not."""

TOLERANCE = 1e-5
"""The graph-regularised factorisation has converged if a round lowers its objective by less than this share."""

# Far below any sum of weights, and keeps divisions by an empty factor finite.
_TINY = 1e-12


@dataclass(frozen=True)
class Factors:
    """Non-negative factors of expression, X ≈ W H.

    The product leaves the scale of W and H open. The rows of H have unit length here. Distances between rows of W are then distances in
    expression, and no factor counts for more than it explains.

    Attributes
    ----------
    weights
        W, (cells, rank).
    programs
        H, (rank, genes), rows of unit length.
    objective
        Objective after each round; empty unless `factorize_on_graph` computed the factors.
    """

    weights: Floats
    programs: Floats
    objective: tuple[float, ...] = ()


def log_rates(counts: sparse.csr_matrix) -> sparse.csr_array:
    """Return the natural log(1 + counts per 10,000), (cells, genes); cells without transcripts stay empty.

    Parameters
    ----------
    counts
        Raw counts, (cells, genes).
    """
    # Per 10,000 and not to the median depth, because hSNMF was published on this scale.
    depth = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    scale = np.divide(1e4, depth, out=np.zeros_like(depth), where=depth > 0)
    return sparse.csr_array(sparse.diags_array(scale) @ counts).log1p()


def factorize(x: sparse.csr_array, rank: int, seed: int) -> Factors:
    """Minimise ‖X − W H‖² over non-negative W and H by coordinate descent.

    Parameters
    ----------
    x
        Expression X, (cells, genes), non-negative.
    rank
        Number of factors, at most the number of cells and of genes.
    seed
        Seed of the start, a singular value decomposition with its zeros filled by the mean.
    """
    if rank > min(x.shape):
        logger.warning("%d factors requested, but so few cells or genes allow only %d", rank, min(x.shape))
    model = NMF(min(rank, *x.shape), init="nndsvda", max_iter=MAX_ROUNDS, random_state=seed)
    weights = model.fit_transform(x)
    logger.info("NMF: %d rounds", model.n_iter_)
    return Factors(*_unit_rows(weights, model.components_))


def factorize_on_graph(x: sparse.csr_array, graph: sparse.csr_array, penalty: float, start: Factors) -> Factors:
    """Minimise ‖X − W H‖² + λ tr(Wᵀ L W), L = D − A, by multiplicative updates, which never raise it.

    This is the graph-regularised NMF of Cai et al. 2011 (doi 10.1109/TPAMI.2010.231), with rows of H of unit length. Without that the
    penalty vanishes if W shrinks and H grows without end. The constraint adds λ (Wᵀ L W)ₖₖ Hₖ to the denominator of H's update.

    Parameters
    ----------
    x
        Expression X, (cells, genes), non-negative.
    graph
        Edge weights A, (cells, cells), symmetric.
    penalty
        Weight λ of the differences between neighbours.
    start
        Factors of the same X without a graph.

    Returns
    -------
    Factors, and the objective after each round.
    """
    # Lifted above zero, because multiplication cannot leave zero and coordinate descent ends in many zeros.
    w, h = _unit_rows(_lift(start.weights), _lift(start.programs))
    degree = np.asarray(graph.sum(axis=1)).reshape(-1, 1)
    squares = float((x.data**2).sum())
    objective: list[float] = []
    for _ in range(MAX_ROUNDS):
        w = w * (x @ h.T + penalty * (graph @ w)) / np.maximum(w @ (h @ h.T) + penalty * degree * w, _TINY)
        roughness = np.asarray((w * (degree * w - graph @ w)).sum(axis=0))
        projected, overlap = (x.T @ w).T, w.T @ w
        h = h * projected / np.maximum(overlap @ h + penalty * roughness[:, None] * h, _TINY)
        bound = float((np.linalg.norm(h, axis=1) ** 2) @ roughness)
        objective.append(squares - 2 * float((projected * h).sum()) + float((overlap * (h @ h.T)).sum()) + penalty * bound)
        w, h = _unit_rows(w, h)
        if len(objective) > 1 and objective[-2] - objective[-1] < TOLERANCE * objective[-2]:
            break
    logger.info("graph-regularised NMF: %d rounds", len(objective))
    return Factors(w, h, tuple(objective))


def _lift(values: Floats) -> Floats:
    return np.asarray(values + values.mean() / 100)


def _unit_rows(w: Floats, h: Floats) -> tuple[Floats, Floats]:
    length = np.maximum(np.linalg.norm(h, axis=1), _TINY)
    return w * length, h / length[:, None]
