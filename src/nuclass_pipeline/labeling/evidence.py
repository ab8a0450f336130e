"""What ranks the admissible types of each cell. A cell's type is that whose transcripts dominate it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import softmax

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.config.labeling import CELL_ANNOTATORS
from nuclass_pipeline.expression.counts import normalize
from nuclass_pipeline.knowledge.markers import Panel
from nuclass_pipeline.labeling.neighborhood import Neighborhood
from nuclass_pipeline.runtime import load_entry

OWN_SHARE = 0.3
"""Weight of the cell itself against its neighbours' average: mixed cells differ from their neighbours."""

MIN_SEEDS = 5
"""A type with fewer candidate cells is not learnt from, and stands on its markers alone."""


@dataclass(frozen=True)
class CellExpression:
    """Expression of the cells that passed quality control, and the markers.

    `counts` are raw, (cells, genes); `own` and `smoothed` are normalised to the slide's median depth, the second averaged with
    `neighbors`, other cells of the slide that are near in `components`, (cells, n).
    """

    panel: Panel
    counts: sparse.csr_matrix
    components: Floats
    neighbors: Neighborhood
    own: sparse.csr_matrix
    smoothed: Floats


@dataclass(frozen=True)
class TypeProbabilities:
    """Probabilities of types, (cells, types) each, rows summing to one.

    `answer` chooses. `sureness`, one or more opinions that claim no more than they know, says how sure the choice is.
    """

    answer: Floats
    sureness: tuple[Floats, ...]


class Annotator(Protocol):
    """Anything that ranks types, by what it learnt from the cells of a slide."""

    def rank(self, evidence: CellExpression) -> TypeProbabilities:
        """Rank the types of `evidence.panel` for each cell."""


def gather_expression(panel: Panel, counts: sparse.csr_matrix, components: Floats) -> CellExpression:
    """Gather the evidence from raw counts (cells, genes) and principal components (cells, n)."""
    neighbors, own = Neighborhood.of_slide(components), normalize(counts)
    return CellExpression(panel, counts, components, neighbors, own, neighbors.average(own, own))


@dataclass(frozen=True)
class Rules:
    """The markers choose each cell's lineage, and the profiles of the cells they are surest of the type within it.

    Between lineages a mixed cell is what dominates its transcripts, and only the markers are fair judges of that: what is learnt from
    unmixed cells takes a few foreign transcripts for proof. Within a lineage types share markers, and whole profiles tell more.
    `reference_shares`, (lineages,), is the share that the markers of each lineage reach in its own cells.
    """

    centroids: "TypeCentroids"
    reference_shares: Floats

    @classmethod
    def learn(cls, evidence: CellExpression) -> "Rules":
        """Learn the profiles of the cells of a slide that the markers are surest of, and what share their lineages attain."""
        shares = marker_shares(evidence)
        chosen = choose_seeds(shares)
        return cls(TypeCentroids.learn(shares, chosen), _reference_shares(evidence.panel, marker_shares(evidence, discount=True), chosen))

    def rank(self, evidence: CellExpression) -> TypeProbabilities:
        """Rank the types of `evidence.panel` for each cell."""
        profiles, shares = self.centroids.compare(marker_shares(evidence)), marker_shares(evidence, discount=True)
        modest = temper(profiles)
        answer, modest_answer = (self._lineage_then_type(evidence.panel, shares, found) for found in (profiles, modest))
        return TypeProbabilities(answer, (modest_answer, modest))

    def _lineage_then_type(self, panel: Panel, shares: Floats, profiles: Floats) -> Floats:
        member, code = group_members(panel.lineages)
        # Squared, a share counts as much as it exceeds the others: half of the markers is more than twice a quarter of them.
        lineage = _shares((shares @ member / self.reference_shares**SHARE_EXPONENT) ** 2)
        inside = profiles + 1e-9
        return np.asarray(lineage[:, code] * inside / (inside @ member)[:, code])


# A lineage with faint markers on the panel loses its mixed cells to others. In full, the correction would give it others' cells.
SHARE_EXPONENT = 0.25


def _reference_shares(panel: Panel, shares: Floats, chosen: NDArray[np.int64]) -> Floats:
    """Give the median share of each lineage in its own seeds, (lineages,); the largest of these to a lineage without seeds."""
    member, code = group_members(panel.lineages)
    by_lineage, lineage = shares @ member, np.where(chosen >= 0, code[chosen], -1)
    own = [by_lineage[lineage == column, column] for column in range(member.shape[1])]
    medians = np.array([np.median(values) if len(values) else 0 for values in own])
    return np.where(medians > 0, medians, medians.max() or 1.0)


def group_members(groups: Sequence[str]) -> tuple[Floats, NDArray[np.int64]]:
    """Give the membership (types, groups), 0 or 1, and the column of each type's group (types,)."""
    _, code = np.unique(groups, return_inverse=True)
    return np.eye(code.max() + 1)[code], code


def fit_annotator(name: str, evidence: CellExpression) -> Annotator:
    """Fit the annotator of this name in `CELL_ANNOTATORS` to the cells of a slide."""
    annotator: Annotator = load_entry(CELL_ANNOTATORS[name])(evidence)
    return annotator


def marker_shares(evidence: CellExpression, *, discount: bool = False) -> Floats:
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
    expression = OWN_SHARE * (evidence.own @ weights) + (1 - OWN_SHARE) * (evidence.smoothed @ weights)
    return _shares(np.clip(expression, 0, None))


def _shares(values: Floats) -> Floats:
    total = values.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(values, total, out=np.full_like(values, 1 / max(values.shape[1], 1)), where=total > 0))


def choose_seeds(shares: Floats) -> NDArray[np.int64]:
    """Choose the fifth of each type's cells with the widest margin; the others are -1.

    Parameters
    ----------
    shares
        Evidence for each type, (cells, types). A type that is the first of fewer than `MIN_SEEDS` cells gets none.
    """
    first, gap = shares.argmax(axis=1), margins(shares)
    chosen = np.full(len(shares), -1)
    for column in range(shares.shape[1]):
        cells = np.flatnonzero((first == column) & (gap > 0))
        if len(cells) >= MIN_SEEDS:
            best = np.argsort(-gap[cells], kind="stable")[: max(MIN_SEEDS, int(_SEED_SHARE * len(cells)))]
            chosen[cells[best]] = column
    return chosen


_SEED_SHARE = 0.2


def margins(values: Floats) -> Floats:
    """Give the distance between the two largest values of each row; the value itself where there is one column."""
    if values.shape[1] < 2:
        return np.asarray(values.sum(axis=1))
    two = np.partition(values, -2, axis=1)[:, -2:]
    return np.asarray(two[:, 1] - two[:, 0])


@dataclass(frozen=True)
class TypeCentroids:
    """Marker shares of the seeds of each type, for comparison (diagonal discriminant analysis).

    Roots of shares are taken as normal around the mean of a type's seeds, with one variance per marker set for all types, and types
    as frequent as their seeds. `learnt` are the columns of the types with seeds, (learnt,); `frequency` theirs, `centres`
    (learnt, types), `variance` (types,).
    """

    learnt: NDArray[np.int64]
    frequency: Floats
    centers: Floats
    variance: Floats

    @classmethod
    def learn(cls, shares: Floats, chosen: NDArray[np.int64]) -> "TypeCentroids":
        """Learn from shares (cells, types) and the type of each seed (cells,), -1 for other cells."""
        taught = chosen >= 0
        learnt, code = np.unique(chosen[taught], return_inverse=True)
        roots, member = np.sqrt(shares[taught]), code[:, None] == np.arange(len(learnt))
        centers = (member.T @ roots) / member.sum(axis=0)[:, None]
        variance = ((roots - centers[code]) ** 2).sum(axis=0) / max(len(roots), 1) + _MIN_VARIANCE
        return cls(learnt, member.sum(axis=0) / len(shares), centers, variance)

    def compare(self, shares: Floats) -> Floats:
        """Give the probabilities of the types, (cells, types): nothing to those without seeds; the shares themselves if none has any."""
        if not len(self.learnt):
            return shares
        distance = np.stack([((np.sqrt(shares) - center) ** 2 / self.variance).sum(axis=1) for center in self.centers], axis=1)
        probabilities = np.zeros_like(shares)
        probabilities[:, self.learnt] = softmax(np.log(self.frequency) - distance / 2, axis=1)
        return probabilities


# Of a root of a share: types that no seed shows would otherwise decide by the least trace.
_MIN_VARIANCE = 1e-3


def temper(profiles: Floats) -> Floats:
    """Average the evidence of the marker sets instead of adding it up, (cells, types).

    `Profiles` takes each of the n sets for a witness of its own. They share genes and neighbours, so that its odds are right in
    direction and far too bold in size; their nth root is not.
    """
    return np.asarray(_shares(profiles ** (1 / profiles.shape[1])))
