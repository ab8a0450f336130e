"""One cell type per cell from the probabilities of types, its confidence, and the reason where a cell gets no label."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from nuclass_pipeline.arrays import Booleans, Floats, Integers
from nuclass_pipeline.labeling.evidence import CellExpression, TypeProbabilities, lineage_members

# Half of a type's marker weight is up in its cells; shuffled markers reach 0.1 to 0.4.
ENOUGH_SUPPORT = 0.5
"""Support from which confidence is not reduced."""

# How many times the mean of other lineages a marker needs to be up in a type's cells. Unchanged since the first version, like the next two.
_MIN_FOLD_CHANGE = 2.0
# Mean normalised count from which a marker counts, because the slide hardly shows it in any cell below.
_MIN_MEAN = 0.005
# Added to means before their ratio, because a marker without counts outside a type would be infinitely up.
_PSEUDOCOUNT = 0.02

# Weight of markers assumed not up, because a type with one marker on the panel would otherwise be proven by it (docs/development.md).
_PRIOR_MARKERS = 2.0

# As many permutations as for the proposals of clusters (docs/labels.md).
_PERMUTATIONS = 40
# Cells of each permutation. A bound on time alone, because the quantile is over 40 times as many.
_MAX_PERMUTED_CELLS = 5000

POOR_QUALITY = "poor quality"
WEAK_SUPPORT = "weak support"
CONFLICTING_LINEAGES = "conflicting lineages"
LINEAGE_ONLY = "lineage only"
NOT_A_CLASS = "not a class of the study"


@dataclass(frozen=True)
class TypeAssignment:
    """Type and lineage of each cell before abstention, and how sure both are.

    Attributes
    ----------
    candidate
        Column of the cell's type, (cells,).
    lineage
        Column of its lineage, (cells,).
    confidence, lineage_confidence
        How sure both are, 0 to 1, (cells,).
    margin, lineage_margin
        Difference to the second best type and lineage, 0 to 1, (cells,).
    purity
        Weighted share of neighbours in expression with a candidate of the same lineage, (cells,).
    type_support
        Share of each type's marker weight that is up in its cells on this slide, (types,).
    """

    candidate: Integers
    lineage: Integers
    confidence: Floats
    lineage_confidence: Floats
    margin: Floats
    lineage_margin: Floats
    purity: Floats
    type_support: Floats

    @property
    def support(self) -> Floats:
        """Support of each cell's candidate, (cells,)."""
        return np.asarray(self.type_support[self.candidate])

    def downweighted(self, null_support: float) -> "TypeAssignment":
        """Return the same with confidences in proportion to support below `ENOUGH_SUPPORT`, and 0 for support below `null_support`."""
        weight = np.clip(self.support / ENOUGH_SUPPORT, 0, 1) * (self.support >= null_support)
        return replace(self, confidence=weight * self.confidence, lineage_confidence=weight * self.lineage_confidence)


def assign_types(
    expression: CellExpression,
    probabilities: TypeProbabilities,
    lineages: Sequence[str] | None = None,
    slide: TypeAssignment | None = None,
) -> TypeAssignment:
    """Choose the lineage of each cell, then a type in it, and estimate how sure both are.

    A confidence is the geometric mean of the estimates `for_confidence`, so that one of them can lower it alone. It is reduced by up to a
    half where neighbours in expression are of other lineages. Margins are those of the first estimate.

    Parameters
    ----------
    expression
        Expression and markers.
    probabilities
        What the annotator returned for these cells.
    lineages
        Lineage of each type; those of `expression.panel` by default.
    slide
        Assignment of the slide's cells where `expression` holds query cells; `expression.neighbors` refers to its rows.
    """
    member, code = lineage_members(expression.panel.lineages if lineages is None else lineages)
    # Lineage first, because a cell split between two kinds of fibroblast is a fibroblast, even if a T cell comes second.
    first = (probabilities.for_choice @ member).argmax(axis=1)
    candidate = np.where(code == first[:, None], probabilities.for_choice, -1).argmax(axis=1)
    lineage = code[candidate]
    of_neighbors = (lineage if slide is None else slide.lineage)[expression.neighbors.rows]
    purity = expression.neighbors.share(of_neighbors == lineage[:, None])
    neighbor_factor = (1 + purity) / 2
    by_lineage = [estimate @ member for estimate in probabilities.for_confidence]
    return TypeAssignment(
        candidate=candidate,
        lineage=lineage,
        confidence=neighbor_factor * _geometric_mean(probabilities.for_confidence, candidate),
        lineage_confidence=neighbor_factor * _geometric_mean(by_lineage, lineage),
        margin=_lead(probabilities.for_confidence[0], candidate),
        lineage_margin=_lead(by_lineage[0], lineage),
        purity=purity,
        type_support=type_support(expression, candidate) if slide is None else slide.type_support,
    )


def _geometric_mean(estimates: Sequence[Floats], choice: Integers) -> Floats:
    """Average the estimates of each row's choice, (rows,); an estimate below 0.001 counts as 0.001."""
    rows = np.arange(len(choice))
    # Not 0, because one estimate of 0 would override all others.
    return np.asarray(np.exp(np.mean([np.log(np.maximum(estimate[rows, choice], 1e-3)) for estimate in estimates], axis=0)))


def _lead(values: Floats, choice: Integers) -> Floats:
    """Compute the difference of each row's choice to the best of the others, at least 0, (rows,)."""
    own = np.take_along_axis(values, choice[:, None], axis=1).ravel()
    others = values.copy()
    np.put_along_axis(others, choice[:, None], 0, axis=1)
    return np.asarray(np.clip(own - others.max(axis=1), 0, None))


def type_support(expression: CellExpression, candidate: Integers) -> Floats:
    """Compute the share of each type's marker weight that is at least twofold up in its cells, (types,); 0 for types without cells.

    Cells are compared with cells of other lineages: relatives share markers, and may be most of the slide. The heaviest marker that is up
    is not counted, since one gene alone can select any set of cells; a real type has others up with it. Markers that the slide hardly
    shows count neither for nor against a type.

    Parameters
    ----------
    expression
        Expression and markers.
    candidate
        Column of each cell's type, (cells,).
    """
    weights = np.clip(expression.panel.weights, 0, None)
    lineages = np.asarray(expression.panel.lineages)
    inside = candidate[:, None] == np.arange(weights.shape[1])
    outside = lineages[candidate][:, None] != lineages
    seen = weights * (np.asarray(expression.own.mean(axis=0)).reshape(-1, 1) > _MIN_MEAN)
    # Where all cells are of one lineage, the mean outside is 0 and presence decides, because nothing is left to compare with.
    limit = _MIN_FOLD_CHANGE * (_means(expression.own, outside) + _PSEUDOCOUNT)
    up = seen * (_means(expression.own, inside) + _PSEUDOCOUNT >= limit)
    first = up.max(axis=0)
    return np.asarray((up.sum(axis=0) - first) / (seen.sum(axis=0) - first + _PRIOR_MARKERS) * inside.any(axis=0))


def null_type_support(expression: CellExpression, seed: int) -> float:
    """Draw the permutation null of the support of a cell's type, and return its 95 % quantile.

    The weights of genes that are markers are permuted between these genes. A type with less support than the quantile is no better
    supported than by a table without knowledge. At most `_MAX_PERMUTED_CELLS` cells are used; `seed` draws them and the permutations.
    """
    rng = np.random.default_rng(seed)
    n = len(expression.smoothed)
    rows = rng.choice(n, min(n, _MAX_PERMUTED_CELLS), replace=False)
    weights = expression.panel.weights
    marked = np.flatnonzero(weights.any(axis=1))
    supports = []
    for _ in range(_PERMUTATIONS):
        permuted = weights.copy()
        permuted[marked] = weights[rng.permutation(marked)]
        panel = replace(expression.panel, weights=permuted)
        drawn = replace(expression, panel=panel, own=expression.own[rows], smoothed=expression.smoothed[rows])
        candidate = drawn.discounted_shares.argmax(axis=1)
        supports.append(type_support(drawn, candidate)[candidate])
    return float(np.quantile(supports, 0.95))


def _means(x: sparse.csr_matrix, member: Booleans) -> Floats:
    """Average the rows of `x` in each column of `member`, (genes, columns); 0 for columns without rows."""
    return np.asarray((x.T @ member.astype(float)) / np.maximum(member.sum(axis=0), 1))


def abstention_reasons(assignment: TypeAssignment, min_confidence: float) -> list[str | None]:
    """Return the reason why each cell has no label; None where it has one.

    Parameters
    ----------
    assignment
        Types of the cells, with calibrated confidences.
    min_confidence
        Confidence below which a cell is Unresolved. A cell whose lineage alone reaches it has the reason `LINEAGE_ONLY`.
    """
    unsure = assignment.confidence < min_confidence
    choices = [
        (unsure & (assignment.support < ENOUGH_SUPPORT), WEAK_SUPPORT),
        (unsure & (assignment.lineage_confidence >= min_confidence), LINEAGE_ONLY),
        (unsure, CONFLICTING_LINEAGES),
    ]
    codes = np.select([mask for mask, _ in choices], range(len(choices)), default=len(choices))
    names = [*(name for _, name in choices), None]
    return [names[code] for code in codes]
