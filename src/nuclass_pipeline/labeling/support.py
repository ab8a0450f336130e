"""Support of cell types on a slide: markers that had no part in the choice of a type's cells, and are up in them all the same."""

from dataclasses import replace

import numpy as np
from scipy import sparse

from nuclass_pipeline.arrays import Booleans, Floats, Integers
from nuclass_pipeline.labeling.evidence import CellExpression, Fit, choose_types, with_panel

# A round number. With halves instead, shallow slides had too few markers left to choose cells by (docs/development.md).
_FOLDS = 5
"""Parts of the markers, each of which is held out once."""

# How many times the mean of other lineages a marker needs to be up in a type's cells. Unchanged since the first version.
_MIN_FOLD_CHANGE = 2.0
# Mean normalised count from which a marker counts, because the slide hardly shows it in any cell below: over all cells, or in one of the
# types, because one cell in a thousand does not move the mean of a slide.
_MIN_MEAN, _MIN_TYPE_MEAN = 0.005, 0.1
# Cells of such a type, because the mean of fewer is not stable.
_MIN_TYPE_CELLS = 20
# Added to means before their ratio, because a marker without counts outside a type would be infinitely up.
_PSEUDOCOUNT = 0.02

# Weight of markers assumed not up, because a type with one marker on the panel would otherwise be proven by it (docs/development.md).
_PRIOR_MARKERS = 2.0

_PERMUTATIONS = 20
# Cells of each permutation. A bound on time alone, because the quantile is over 20 times as many.
_MAX_PERMUTED_CELLS = 2000


def type_support(expression: CellExpression, fit: Fit, seed: int) -> Floats:
    """Compute the share of each type's marker weight that is up in cells chosen without it, (types,); 0 for types without cells.

    The markers are divided into five random parts. Each part is held out once: cells get types by the other markers, and a marker of the
    part is up if its mean in a type's cells is at least twice that in cells of other lineages. Any set of cells that a gene selects has
    that gene up, so the markers that choose cells cannot show whether a type is there. Markers that the slide hardly shows count neither
    for nor against a type.

    Parameters
    ----------
    expression
        Expression and markers.
    fit
        What fits the annotator.
    seed
        Seed of the parts.
    """
    weights = expression.panel.weights
    shown = np.asarray(expression.own.mean(axis=0)).ravel() > _MIN_MEAN
    marked = np.random.default_rng(seed).permutation(np.flatnonzero(weights.any(axis=1)))
    seen, up = np.zeros((2, weights.shape[1]))
    for part in range(_FOLDS):
        out = np.isin(np.arange(len(weights)), marked[part::_FOLDS])
        others = with_panel(expression, replace(expression.panel, weights=weights * ~out[:, None]))
        candidate, _ = choose_types(fit(others).rank(others), expression.panel.lineages)
        within, is_up = _compare(expression, candidate)
        large = np.bincount(candidate, minlength=weights.shape[1]) >= _MIN_TYPE_CELLS
        held_out = np.clip(weights, 0, None) * (out & (shown | (within[:, large] > _MIN_TYPE_MEAN).any(axis=1)))[:, None]
        # No type whose markers are all held out, because nothing has chosen its cells.
        chosen = (others.panel.weights > 0).any(axis=0)
        seen, up = seen + held_out.sum(axis=0), up + (held_out * is_up).sum(axis=0) * chosen
    return np.asarray(up / (seen + _PRIOR_MARKERS))


def null_type_support(expression: CellExpression, fit: Fit, seed: int) -> float:
    """Draw the permutation null of the support of a cell's type, and return its 95 % quantile.

    The weights of genes that are markers are permuted between these genes. A type with less support than the quantile is no better
    supported than by a table without knowledge. At most `_MAX_PERMUTED_CELLS` cells are used; `seed` draws them and the permutations.
    """
    rng = np.random.default_rng(seed)
    n = len(expression.smoothed)
    rows = rng.choice(n, min(n, _MAX_PERMUTED_CELLS), replace=False)
    few = replace(expression, own=expression.own[rows], smoothed=expression.smoothed[rows])
    weights = expression.panel.weights
    marked = np.flatnonzero(weights.any(axis=1))
    supports = []
    for number in range(_PERMUTATIONS):
        permuted = weights.copy()
        permuted[marked] = weights[rng.permutation(marked)]
        drawn = with_panel(few, replace(expression.panel, weights=permuted))
        candidate, _ = choose_types(fit(drawn).rank(drawn), expression.panel.lineages)
        supports.append(type_support(drawn, fit, seed + number)[candidate])
    return float(np.quantile(supports, 0.95))


def _compare(expression: CellExpression, candidate: Integers) -> tuple[Floats, Booleans]:
    """Return the mean of each gene in the cells of each type, and whether it is up there, (genes, types): never in types without cells.

    Cells are compared with cells of other lineages, because relatives share markers and may be most of the slide. Where all cells are of
    one lineage, the mean outside is 0 and presence decides, because nothing is left to compare with.
    """
    lineages = np.asarray(expression.panel.lineages)
    inside = candidate[:, None] == np.arange(len(lineages))
    outside = lineages[candidate][:, None] != lineages
    # Without ambient expression, because a flat background would bring all means near each other.
    within, without = (np.clip(_means(expression.own, cells) - expression.ambient[:, None], 0, None) for cells in (inside, outside))
    is_up = (within + _PSEUDOCOUNT >= _MIN_FOLD_CHANGE * (without + _PSEUDOCOUNT)) & inside.any(axis=0)
    return within, np.asarray(is_up)


def _means(x: sparse.csr_matrix, member: Booleans) -> Floats:
    """Average the rows of `x` in each column of `member`, (genes, columns); 0 for columns without rows."""
    return np.asarray((x.T @ member.astype(float)) / np.maximum(member.sum(axis=0), 1))
