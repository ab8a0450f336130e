"""Marker evidence of cells: each type's share of their marker expression, and what an annotator makes of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from scipy import sparse

from nuclass_pipeline.arrays import Booleans, Floats, Integers
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

# Tuned on the breast slide (docs/labels.md): the share of a type's cells that become its seeds.
_SEED_SHARE = 0.2

# A round number: the mean of fewer cells is not stable.
_MIN_LINEAGE_CELLS = 20
"""Fewest cells of a lineage from which ambient expression is estimated."""

_CHUNK_VALUES = 20_000_000
"""Values of expression that are copied at once."""


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
    ambient
        What `own` holds of each gene that is not the cell's own, (genes,); `marker_shares` subtracts it.
    """

    panel: Panel
    counts: sparse.csr_matrix
    components: Floats
    neighbors: Neighborhood
    own: sparse.csr_matrix
    smoothed: Floats
    ambient: Floats

    # Kept, because fit, ranking and simulated doublets of one slide all need them.
    @cached_property
    def shares(self) -> Floats:
        """`marker_shares` of these cells, (cells, types)."""
        return marker_shares(self)

    @cached_property
    def marked(self) -> Booleans:
        """Whether a cell or its neighbours show any marker above its ambient level, (cells,)."""
        return np.asarray((_marker_sums(self, discount=False) > 0).any(axis=1))

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


Fit = Callable[[CellExpression], Annotator]
"""What fits an annotator to the cells of a slide."""


def gather_expression(panel: Panel, counts: sparse.csr_matrix, components: Floats) -> CellExpression:
    """Build the evidence from raw counts, (cells, genes), and principal components, (cells, n), of all cells of a slide."""
    neighbors, own = Neighborhood.of_slide(components), normalize(counts)
    smoothed = neighbors.average(own, own)
    return with_panel(CellExpression(panel, counts, components, neighbors, own, smoothed, np.zeros(own.shape[1])), panel)


def with_panel(expression: CellExpression, panel: Panel) -> CellExpression:
    """Return the same cells of a slide with other marker weights, and with the ambient expression that these imply."""
    plain = replace(expression, panel=panel, ambient=np.zeros(len(panel.weights)))
    return replace(plain, ambient=ambient_levels(plain))


def ambient_levels(expression: CellExpression) -> Floats:
    """Estimate the ambient expression of each marker, (genes,): transcripts that have left their cell, or were read wrongly.

    A marker is at its ambient level in cells of the lineages that it does not mark. The level is its lowest mean over these lineages, so
    that one of them may express it. It is 0 for other genes, and where no other lineage has enough cells.

    Parameters
    ----------
    expression
        Expression and markers; its own `ambient` is 0.
    """
    member, _ = lineage_members(expression.panel.lineages)
    lineage = (expression.discounted_shares @ member).argmax(axis=1)
    cells = np.bincount(lineage, minlength=member.shape[1])
    large = np.flatnonzero(cells >= _MIN_LINEAGE_CELLS)
    chosen = sparse.csr_matrix((lineage == large[:, None]).astype(float))
    means = np.asarray(chosen @ expression.smoothed) / cells[large, None]
    marked = (expression.panel.weights > 0) @ member > 0
    lowest = np.where(marked.T[large], np.inf, means).min(axis=0, initial=np.inf)
    return np.where(marked.any(axis=1) & np.isfinite(lowest), lowest, 0.0)


def lineage_members(lineages: Sequence[str]) -> tuple[Floats, Integers]:
    """Return which type is in which lineage, 0 or 1, (types, lineages), and the column of each type's lineage, (types,).

    Parameters
    ----------
    lineages
        Lineage of each type.
    """
    _, code = np.unique(lineages, return_inverse=True)
    return np.eye(code.max() + 1)[code], code


def choose_types(probabilities: TypeProbabilities, lineages: tuple[str, ...]) -> tuple[Integers, Integers]:
    """Choose the most probable lineage of each cell, then a type in it: their columns, (cells,) each."""
    member, code = lineage_members(lineages)
    # Lineage first, because a cell split between two kinds of fibroblast is a fibroblast, even if a T cell comes second.
    first = (probabilities.for_choice @ member).argmax(axis=1)
    candidate = np.where(code == first[:, None], probabilities.for_choice, -1).argmax(axis=1)
    return candidate, code[candidate]


def annotator_named(name: str) -> Fit:
    """Return what fits the annotator of this name in `CELL_ANNOTATORS` to the cells of a slide."""
    fit: Fit = load_entry(CELL_ANNOTATORS[name])
    return fit


def marker_shares(expression: CellExpression, *, discount: bool = False) -> Floats:
    """Compute each type's share of a cell's marker expression, (cells, types); rows without any marker are uniform.

    A type's weights are divided by the root of their sum. Their sum would favour types with many markers on the panel, their mean types
    with few. Genes are not standardised, so that transcripts count.

    Ambient expression is subtracted first, because markers of high yield are found in all cells.

    Parameters
    ----------
    expression
        Expression and markers.
    discount
        Whether a marker of n types weighs √n times less for each, so that shared markers decide little.
    """
    return shares_of_rows(_marker_sums(expression, discount))


def _marker_sums(expression: CellExpression, discount: bool) -> Floats:
    weights = expression.panel.weights
    if discount:
        weights = weights / np.sqrt(np.maximum((weights > 0).sum(axis=1, keepdims=True), 1))
    # At least a trace, because a type may have no marker left.
    weights = weights / np.sqrt(np.maximum(np.clip(weights, 0, None).sum(axis=0), 1e-9))
    own = expression.own.copy()
    own.data = np.clip(own.data - expression.ambient[own.indices], 0, None)
    values = OWN_SHARE * (own @ weights)
    step = max(1, _CHUNK_VALUES // max(1, len(weights)))
    for start in range(0, len(values), step):
        rows = slice(start, start + step)
        values[rows] += (1 - OWN_SHARE) * (np.clip(expression.smoothed[rows] - expression.ambient, 0, None) @ weights)
    return np.asarray(np.clip(values, 0, None))


def shares_of_rows(values: Floats) -> Floats:
    """Divide rows by their sums; rows that sum to 0 become uniform."""
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
