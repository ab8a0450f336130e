"""What ranks the admissible types of each cell. A cell's type is that whose transcripts dominate it."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

from nuclass_pipeline.labeling.counts import normalize, smooth
from nuclass_pipeline.labeling.knowledge import Panel

Floats = NDArray[np.float64]

NEIGHBORS = 10
"""Cells averaged against dropout, the cell itself included; at most a tenth of the slide."""

OWN_SHARE = 0.2
"""Weight of the cell itself against its neighbours' average: mixed cells differ from their neighbours."""

FEWEST_SEEDS = 5
"""A type with fewer candidate cells is not learnt from, and stands on its markers alone."""


@dataclass(frozen=True)
class Evidence:
    """Expression of the cells that passed quality control, and the markers.

    `counts` are raw, (cells, genes); `own` and `smoothed` are normalised to the slide's median depth, the second
    averaged over `neighbors`, (cells, k), each cell being its own first.
    """

    panel: Panel
    counts: sparse.csr_matrix
    neighbors: NDArray[np.int64]
    own: sparse.csr_matrix
    smoothed: Floats

    @property
    def blended(self) -> Floats:
        """Normalised expression of a cell with its neighbours', (cells, genes)."""
        return np.asarray(OWN_SHARE * self.own.toarray() + (1 - OWN_SHARE) * self.smoothed)


@dataclass(frozen=True)
class Opinions:
    """Probabilities of types, (cells, types) each, rows summing to one: the answer, and others that only say how sure it is."""

    answer: Floats
    others: tuple[Floats, ...] = ()


class Annotator(Protocol):
    """Anything that ranks types."""

    def __call__(self, evidence: Evidence) -> Opinions:
        """Rank the types of `evidence.panel` for each cell."""


def collect(panel: Panel, counts: sparse.csr_matrix, components: Floats) -> Evidence:
    """Gather the evidence from raw counts (cells, genes) and principal components (cells, n)."""
    k = max(1, min(NEIGHBORS, len(components) // 10))
    found = NearestNeighbors(n_neighbors=k).fit(components).kneighbors(components, return_distance=False)
    # Cells with equal components may be listed in any order; the cell itself has to come first.
    found[:, 0] = np.where((found == np.arange(len(found))[:, None]).any(axis=1), found[:, 0], np.arange(len(found)))
    own = normalize(counts)
    return Evidence(panel, counts, found, own, smooth(own, found))


def rank_by_rules(evidence: Evidence) -> Opinions:
    """Let the markers choose each cell's lineage, and what was learnt from the cells they are surest of the type within it.

    Between lineages a mixed cell is what dominates its transcripts, and only the markers are fair judges of that: what is learnt from
    unmixed cells takes a few foreign transcripts for proof. Within a lineage types share markers, and whole profiles tell more.
    """
    shares = marker_shares(evidence)
    profiles = compare_profiles(shares, seeds(shares, keep=0.2))
    regression = _regress(evidence, seeds(shares, keep=0.6))
    return Opinions(_lineage_then_type(evidence.panel, marker_shares(evidence, discount=True), profiles), (profiles, regression))


def _lineage_then_type(panel: Panel, shares: Floats, profiles: Floats) -> Floats:
    _, code = np.unique(panel.lineages, return_inverse=True)
    member = np.eye(code.max() + 1)[code]
    # Squared, a share counts as much as it exceeds the others: half of the markers is more than twice a quarter of them.
    lineage = _shares((shares @ member) ** 2)
    inside = profiles + 1e-9
    return np.asarray(lineage[:, code] * inside / (inside @ member)[:, code])


ANNOTATORS: dict[str, Annotator] = {"rules": rank_by_rules}
"""Annotators by the name they have in a run file."""


def marker_shares(evidence: Evidence, *, discount: bool = False) -> Floats:
    """Give each type's share of a cell's marker expression, (cells, types); rows without any marker are uniform.

    A type's weights are divided by the root of their sum: in between the sum of its markers, which favours types with many on
    the panel, and their mean, which favours types with few. Genes are not standardised, so transcripts count.

    Parameters
    ----------
    evidence
        Expression and markers.
    discount
        Whether a gene that speaks for n types weighs √n times less for each, so that what they share decides little.
    """
    weights = evidence.panel.weights
    if discount:
        weights = weights / np.sqrt(np.maximum((weights > 0).sum(axis=1, keepdims=True), 1))
    weights = weights / np.sqrt(np.clip(weights, 0, None).sum(axis=0))
    return _shares(np.clip(evidence.blended @ weights, 0, None))


def _shares(values: Floats) -> Floats:
    total = values.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(values, total, out=np.full_like(values, 1 / max(values.shape[1], 1)), where=total > 0))


def seeds(shares: Floats, keep: float) -> NDArray[np.int64]:
    """Choose the `keep` share of each type's cells with the widest margin; the others are -1.

    Parameters
    ----------
    shares
        Evidence for each type, (cells, types).
    keep
        Share of the cells whose first type it is; at least `FEWEST_SEEDS` of them.
    """
    first, gap = shares.argmax(axis=1), margins(shares)
    chosen = np.full(len(shares), -1)
    for column in range(shares.shape[1]):
        cells = np.flatnonzero((first == column) & (gap > 0))
        if len(cells) >= FEWEST_SEEDS:
            best = np.argsort(-gap[cells], kind="stable")[: max(FEWEST_SEEDS, int(keep * len(cells)))]
            chosen[cells[best]] = column
    return chosen


def margins(values: Floats) -> Floats:
    """Give the distance between the two largest values of each row; the value itself where there is one column."""
    if values.shape[1] < 2:
        return np.asarray(values.sum(axis=1))
    two = np.partition(values, -2, axis=1)[:, -2:]
    return np.asarray(two[:, 1] - two[:, 0])


def _regress(evidence: Evidence, chosen: NDArray[np.int64]) -> Floats:
    """Fit a logistic regression on smoothed expression to the seeds, and apply it to all cells, (cells, types)."""
    learnt = np.unique(chosen[chosen >= 0])
    if len(learnt) < 2:
        return _certain(evidence, learnt)
    x = np.log1p(evidence.smoothed)
    # Stopping early is half the time, and as accurate: the seeds are not all right.
    model = LogisticRegression(C=0.1, tol=0.01, max_iter=200).fit(x[chosen >= 0], chosen[chosen >= 0])
    probabilities = np.zeros((len(x), len(evidence.panel.types)))
    probabilities[:, model.classes_] = model.predict_proba(x)
    return probabilities


def _certain(evidence: Evidence, learnt: NDArray[np.int64]) -> Floats:
    """Nothing to tell apart: believe in the one type learnt, or stay with the markers."""
    if not len(learnt):
        return marker_shares(evidence)
    probabilities = np.zeros((len(evidence.smoothed), len(evidence.panel.types)))
    probabilities[:, learnt] = 1
    return probabilities


def compare_profiles(shares: Floats, chosen: NDArray[np.int64]) -> Floats:
    """Compare each cell's marker shares with those of the seeds of each type, (cells, types).

    Roots of shares are taken as normal around the mean of a type's seeds, with one variance per marker set for all types
    (diagonal discriminant analysis), and types as frequent as their seeds. Types without seeds get nothing.

    Parameters
    ----------
    shares
        Share of each type's markers, (cells, types).
    chosen
        Type of each seed, -1 for other cells.
    """
    learnt = np.unique(chosen[chosen >= 0])
    if not len(learnt):
        return shares
    roots = np.sqrt(shares)
    member = chosen[:, None] == learnt
    centres = (member.T @ roots) / member.sum(axis=0)[:, None]
    taught = chosen >= 0
    variance = ((roots[taught] - centres[np.searchsorted(learnt, chosen[taught])]) ** 2).mean(axis=0) + _LEAST_VARIANCE
    distance = np.stack([((roots - centre) ** 2 / variance).sum(axis=1) for centre in centres], axis=1)
    probabilities = np.zeros_like(shares)
    probabilities[:, learnt] = softmax(np.log(member.mean(axis=0)) - distance / 2, axis=1)
    return probabilities


# Of a root of a share: types that no seed shows would otherwise decide by the least trace.
_LEAST_VARIANCE = 1e-3
