"""Marker evidence of cells, and the annotator that ranks cell types by it: the type that dominates a cell's transcripts comes first."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from scipy import sparse
from scipy.special import softmax

from nuclass_pipeline.arrays import Floats, Integers
from nuclass_pipeline.config.labeling import CELL_ANNOTATORS
from nuclass_pipeline.expression.counts import normalize
from nuclass_pipeline.knowledge.markers import Panel
from nuclass_pipeline.labeling.neighborhood import Neighborhood
from nuclass_pipeline.runtime import load_entry

# Tuned on the breast slide (docs/labels.md). Not 0, because a doublet differs from its neighbours.
OWN_SHARE = 0.3
"""Weight of the cell itself against its average with its neighbours."""

# A round number, unchanged since the first version: the mean of fewer is not stable.
MIN_SEEDS = 5
"""Fewest cells of a type from which seeds are chosen."""

# Tuned on the breast slide (docs/development.md). Without it, lineages with faint markers lose their doublets to others; with 1, they
# take cells of others, which cost 4 % of accuracy.
SHARE_EXPONENT = 0.25
"""Exponent of the reference shares that a cell's marker shares are divided by."""

# Tuned on the breast slide (docs/labels.md): the share of a type's cells that become its seeds.
_SEED_SHARE = 0.2

# Added to the variance of a root of a share, because a type that no seed shows would otherwise decide by the smallest trace.
_MIN_VARIANCE = 1e-3


@dataclass(frozen=True)
class CellExpression:
    """Expression of the cells that passed quality control, and the markers.

    Attributes
    ----------
    panel
        Marker weights on the panel of the slide.
    counts
        Raw counts, (cells, genes).
    components
        Principal components, (cells, n).
    neighbors
        Cells of the slide that are near in `components`.
    own
        Counts normalised to the slide's median depth, (cells, genes).
    smoothed
        `own`, averaged with the neighbours, (cells, genes).
    """

    panel: Panel
    counts: sparse.csr_matrix
    components: Floats
    neighbors: Neighborhood
    own: sparse.csr_matrix
    smoothed: Floats

    # Kept, because fit, ranking and simulated doublets of one slide all need them.
    @cached_property
    def shares(self) -> Floats:
        """`marker_shares` of these cells, (cells, types)."""
        return marker_shares(self)

    @cached_property
    def discounted_shares(self) -> Floats:
        """`marker_shares` of these cells with `discount`, (cells, types)."""
        return marker_shares(self, discount=True)


@dataclass(frozen=True)
class TypeProbabilities:
    """Probabilities of cell types, (cells, types) each, rows summing to one.

    Attributes
    ----------
    for_choice
        Probabilities that the type of a cell is chosen by.
    for_confidence
        One or more estimates that are not overconfident; the confidence of the choice is their geometric mean.
    """

    for_choice: Floats
    for_confidence: tuple[Floats, ...]


class Annotator(Protocol):
    """Anything that ranks cell types, fitted to the cells of a slide."""

    def rank(self, expression: CellExpression) -> TypeProbabilities:
        """Compute the probabilities of the types of `expression.panel` for each cell."""


def gather_expression(panel: Panel, counts: sparse.csr_matrix, components: Floats) -> CellExpression:
    """Build the evidence from raw counts, (cells, genes), and principal components, (cells, n), of all cells of a slide."""
    neighbors, own = Neighborhood.of_slide(components), normalize(counts)
    return CellExpression(panel, counts, components, neighbors, own, neighbors.average(own, own))


@dataclass(frozen=True)
class Rules:
    """Choose a cell's lineage by its markers, and its type within the lineage by centroids of the most confident cells.

    Between lineages the markers decide alone, because a classifier fitted to pure cells changes the lineage for a few foreign transcripts.
    On the breast slide one gave 5 % of the stroma to immune types. Within a lineage types share markers, and whole marker profiles
    separate them better.

    Attributes
    ----------
    centroids
        Centroids of the types that have seeds.
    reference_shares
        Share that the markers of each lineage reach in its own seeds, (lineages,).
    """

    centroids: "TypeCentroids"
    reference_shares: Floats

    @classmethod
    def fit(cls, expression: CellExpression) -> "Rules":
        """Fit centroids and reference shares to the seeds of a slide."""
        seeds = choose_seeds(expression.shares)
        centroids = TypeCentroids.fit(expression.shares, seeds)
        return cls(centroids, _reference_shares(expression.panel, expression.discounted_shares, seeds))

    def rank(self, expression: CellExpression) -> TypeProbabilities:
        """Compute the probabilities of the types of `expression.panel` for each cell."""
        by_type = self.centroids.probabilities(expression.shares)
        tempered = temper(by_type)
        choice, tempered_choice = (
            self._lineage_then_type(expression.panel, expression.discounted_shares, found) for found in (by_type, tempered)
        )
        return TypeProbabilities(choice, (tempered_choice, tempered))

    def _lineage_then_type(self, panel: Panel, shares: Floats, by_type: Floats) -> Floats:
        member, code = lineage_members(panel.lineages)
        # Squared, because a doublet is of the lineage with most of its markers: 2/3 against 1/3 becomes 4/5 against 1/5.
        lineage = _normalize_rows((shares @ member / self.reference_shares**SHARE_EXPONENT) ** 2)
        # A trace for each type, because a lineage whose types all have probability 0 would divide by 0.
        inside = by_type + 1e-9
        return np.asarray(lineage[:, code] * inside / (inside @ member)[:, code])


def _reference_shares(panel: Panel, shares: Floats, seeds: Integers) -> Floats:
    """Return the median share of each lineage in its own seeds, (lineages,); the largest of these for a lineage without seeds."""
    member, code = lineage_members(panel.lineages)
    by_lineage, lineage = shares @ member, np.where(seeds >= 0, code[seeds], -1)
    own = [by_lineage[lineage == column, column] for column in range(member.shape[1])]
    medians = np.array([np.median(values) if len(values) else 0 for values in own])
    return np.where(medians > 0, medians, medians.max() or 1.0)


def lineage_members(lineages: Sequence[str]) -> tuple[Floats, Integers]:
    """Return which type is in which lineage, 0 or 1, (types, lineages), and the column of each type's lineage, (types,).

    Parameters
    ----------
    lineages
        Lineage of each type.
    """
    _, code = np.unique(lineages, return_inverse=True)
    return np.eye(code.max() + 1)[code], code


def fit_annotator(name: str, expression: CellExpression) -> Annotator:
    """Fit the annotator of this name in `CELL_ANNOTATORS` to the cells of a slide."""
    annotator: Annotator = load_entry(CELL_ANNOTATORS[name])(expression)
    return annotator


def marker_shares(expression: CellExpression, *, discount: bool = False) -> Floats:
    """Compute each type's share of a cell's marker expression, (cells, types); rows without any marker are uniform.

    A type's weights are divided by the root of their sum. Their sum would favour types with many markers on the panel, their mean types
    with few. Genes are not standardised, so that transcripts count.

    Parameters
    ----------
    expression
        Expression and markers.
    discount
        Whether a marker of n types weighs √n times less for each, so that shared markers decide little.
    """
    weights = expression.panel.weights
    if discount:
        weights = weights / np.sqrt(np.maximum((weights > 0).sum(axis=1, keepdims=True), 1))
    weights = weights / np.sqrt(np.clip(weights, 0, None).sum(axis=0))
    values = OWN_SHARE * (expression.own @ weights) + (1 - OWN_SHARE) * (expression.smoothed @ weights)
    return _normalize_rows(np.clip(values, 0, None))


def _normalize_rows(values: Floats) -> Floats:
    total = values.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(values, total, out=np.full_like(values, 1 / max(values.shape[1], 1)), where=total > 0))


def choose_seeds(shares: Floats) -> Integers:
    """Choose the fifth of each type's cells with the widest margin: the type's column for its seeds, -1 for all other cells, (cells,).

    Parameters
    ----------
    shares
        `marker_shares`, (cells, types). A type that ranks first in fewer than `MIN_SEEDS` cells gets no seeds.
    """
    first, gap = shares.argmax(axis=1), margins(shares)
    seeds = np.full(len(shares), -1)
    for column in range(shares.shape[1]):
        cells = np.flatnonzero((first == column) & (gap > 0))
        if len(cells) >= MIN_SEEDS:
            best = np.argsort(-gap[cells], kind="stable")[: max(MIN_SEEDS, int(_SEED_SHARE * len(cells)))]
            seeds[cells[best]] = column
    return seeds


def margins(values: Floats) -> Floats:
    """Compute the difference of the two largest values of each row, (rows,); the value itself where there is one column."""
    if values.shape[1] < 2:
        return np.asarray(values.sum(axis=1))
    two = np.partition(values, -2, axis=1)[:, -2:]
    return np.asarray(two[:, 1] - two[:, 0])


@dataclass(frozen=True)
class TypeCentroids:
    """Marker shares of the seeds of each type, for a diagonal discriminant analysis.

    Roots of shares are modelled as normal around the mean of a type's seeds. Each marker set has one variance for all types. The prior of
    a type is the frequency of its seeds.

    Attributes
    ----------
    types
        Columns of the types with seeds, (k,).
    frequency
        Seeds of each, as a share of all cells, (k,).
    centers
        Mean roots of their marker shares, (k, types).
    variance
        Variance around the centers, (types,).
    """

    types: Integers
    frequency: Floats
    centers: Floats
    variance: Floats

    @classmethod
    def fit(cls, shares: Floats, seeds: Integers) -> "TypeCentroids":
        """Fit to shares, (cells, types), and the type of each seed, (cells,), -1 for other cells."""
        is_seed = seeds >= 0
        types, code = np.unique(seeds[is_seed], return_inverse=True)
        roots, member = np.sqrt(shares[is_seed]), code[:, None] == np.arange(len(types))
        centers = (member.T @ roots) / member.sum(axis=0)[:, None]
        variance = ((roots - centers[code]) ** 2).sum(axis=0) / max(len(roots), 1) + _MIN_VARIANCE
        return cls(types, member.sum(axis=0) / len(shares), centers, variance)

    def probabilities(self, shares: Floats) -> Floats:
        """Compute the probabilities of the types, (cells, types): 0 for types without seeds; the shares themselves if none has any."""
        if not len(self.types):
            return shares
        distance = np.stack([((np.sqrt(shares) - center) ** 2 / self.variance).sum(axis=1) for center in self.centers], axis=1)
        probabilities = np.zeros_like(shares)
        probabilities[:, self.types] = softmax(np.log(self.frequency) - distance / 2, axis=1)
        return probabilities


def temper(probabilities: Floats) -> Floats:
    """Average the evidence of the marker sets instead of adding it up, (cells, types).

    `TypeCentroids` treats its n marker sets as independent. They share genes and neighbours, so its odds have the right direction and are
    far too large. The n-th root of the odds corrects that.
    """
    return np.asarray(_normalize_rows(probabilities ** (1 / probabilities.shape[1])))
