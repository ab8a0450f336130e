"""What ranks the admissible types of each cell. A cell's type is that whose transcripts dominate it."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import softmax
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
    """Probabilities of types, (cells, types) each, rows summing to one.

    `answer` chooses. `sureness`, one or more opinions that claim no more than they know, says how sure the choice is.
    """

    answer: Floats
    sureness: tuple[Floats, ...]


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
    """Let the markers choose each cell's lineage, and the profiles of the cells they are surest of the type within it.

    Between lineages a mixed cell is what dominates its transcripts, and only the markers are fair judges of that: what is learnt from
    unmixed cells takes a few foreign transcripts for proof. Within a lineage types share markers, and whole profiles tell more.
    """
    shares, discounted = marker_shares(evidence), marker_shares(evidence, discount=True)
    profiles = compare_profiles(shares, seeds(shares))
    modest = soften(profiles)
    return Opinions(
        _lineage_then_type(evidence.panel, discounted, profiles), (_lineage_then_type(evidence.panel, discounted, modest), modest)
    )


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


def seeds(shares: Floats) -> NDArray[np.int64]:
    """Choose the fifth of each type's cells with the widest margin; the others are -1.

    Parameters
    ----------
    shares
        Evidence for each type, (cells, types). A type that is the first of fewer than `FEWEST_SEEDS` cells gets none.
    """
    first, gap = shares.argmax(axis=1), margins(shares)
    chosen = np.full(len(shares), -1)
    for column in range(shares.shape[1]):
        cells = np.flatnonzero((first == column) & (gap > 0))
        if len(cells) >= FEWEST_SEEDS:
            best = np.argsort(-gap[cells], kind="stable")[: max(FEWEST_SEEDS, int(_SEED_SHARE * len(cells)))]
            chosen[cells[best]] = column
    return chosen


_SEED_SHARE = 0.2


def margins(values: Floats) -> Floats:
    """Give the distance between the two largest values of each row; the value itself where there is one column."""
    if values.shape[1] < 2:
        return np.asarray(values.sum(axis=1))
    two = np.partition(values, -2, axis=1)[:, -2:]
    return np.asarray(two[:, 1] - two[:, 0])


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


def soften(profiles: Floats) -> Floats:
    """Average the evidence of the marker sets instead of adding it up, (cells, types).

    `compare_profiles` takes each of the n sets for a witness of its own. They share genes and neighbours, so that its odds are right in
    direction and far too bold in size; their nth root is not.
    """
    return np.asarray(_shares(profiles ** (1 / profiles.shape[1])))
