"""From probabilities of types to one answer per cell, or none."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.labeling.evidence import CellExpression, TypeProbabilities, group_members, marker_shares

ENOUGH_SUPPORT = 0.5
"""A type is as good as proven when half of its marker weight is up in its cells; shuffled markers reach 0.1 to 0.4."""

_UP = 2.0
_SEEN = 0.005
_PSEUDO = 0.02
# Keeps a type with two markers on the panel from being as well supported as one with ten.
_DOUBT = 2.0

# Why a cell can be Unresolved.
POOR_QUALITY = "poor quality"
WEAK_SUPPORT = "weak support"
CONFLICTING_LINEAGES = "conflicting lineages"
LINEAGE_ONLY = "lineage only"
NOT_A_CLASS = "not a class of the study"


@dataclass(frozen=True)
class TypeAssignment:
    """One entry per cell: column of the candidate and of its group, how sure both are, and what that rests on, each 0 to 1.

    `margin` is the distance to the next type, `group_margin` that to the next group, `purity` the weighted share of neighbours with a
    candidate of the same group. `type_support`, one entry per type, is the share of its marker weight that is up in its cells on this
    slide.
    """

    candidate: NDArray[np.int64]
    group: NDArray[np.int64]
    confidence: Floats
    group_confidence: Floats
    margin: Floats
    group_margin: Floats
    purity: Floats
    type_support: Floats

    @property
    def support(self) -> Floats:
        """Support of each cell's candidate."""
        return np.asarray(self.type_support[self.candidate])

    def doubted(self, chance: float) -> "TypeAssignment":
        """Take the confidence from types with less support than `chance`, and some of it from those with less than enough."""
        doubt = np.clip(self.support / ENOUGH_SUPPORT, 0, 1) * (self.support >= chance)
        return replace(self, confidence=doubt * self.confidence, group_confidence=doubt * self.group_confidence)


def assign_types(
    evidence: CellExpression, opinions: TypeProbabilities, groups: Sequence[str] | None = None, slide: TypeAssignment | None = None
) -> TypeAssignment:
    """Choose a group of types, then a type in it, and say how sure both are.

    A confidence is the geometric mean of what the opinions on sureness give the choice: one that disagrees counts. It is reduced by up
    to a half where neighbours in expression were given to other groups. Margins are those of the first of these opinions.

    Parameters
    ----------
    evidence
        Expression and markers.
    opinions
        Of the annotator.
    groups
        Name of each type's group, by default its lineage.
    slide
        Verdict on the cells that `evidence.neighbors` are rows of, where these are not the same cells.
    """
    member, code = group_members(evidence.panel.lineages if groups is None else groups)
    # Group first: a cell split between two kinds of fibroblast is a fibroblast, whatever else comes second.
    candidate = np.where(code == (opinions.answer @ member).argmax(axis=1)[:, None], opinions.answer, -1).argmax(axis=1)
    group = code[candidate]
    around = group if slide is None else slide.group
    purity = evidence.neighbors.share(around[evidence.neighbors.rows] == group[:, None])
    supports = type_support(evidence, candidate) if slide is None else slide.type_support
    likely = (1 + purity) / 2
    by_group = [opinion @ member for opinion in opinions.sureness]
    return TypeAssignment(
        candidate=candidate,
        group=group,
        confidence=likely * _agreed(opinions.sureness, candidate),
        group_confidence=likely * _agreed(by_group, group),
        margin=_lead(opinions.sureness[0], candidate),
        group_margin=_lead(by_group[0], group),
        purity=purity,
        type_support=supports,
    )


def _agreed(opinions: Sequence[Floats], choice: NDArray[np.int64]) -> Floats:
    """Average the logarithms of what the opinions give each cell's choice; the least counts as 0.001."""
    rows = np.arange(len(choice))
    return np.asarray(np.exp(np.mean([np.log(np.maximum(opinion[rows, choice], 1e-3)) for opinion in opinions], axis=0)))


def _lead(values: Floats, choice: NDArray[np.int64]) -> Floats:
    """Give the distance of each row's choice to the best of the others, at least 0."""
    own = np.take_along_axis(values, choice[:, None], axis=1).ravel()
    others = values.copy()
    np.put_along_axis(others, choice[:, None], 0, axis=1)
    return np.asarray(np.clip(own - others.max(axis=1), 0, None))


def type_support(evidence: CellExpression, candidate: NDArray[np.int64]) -> Floats:
    """Give the share of each type's marker weight that is at least twofold up in its cells, (types,); 0 for types without cells.

    Compared are the cells of other lineages: relatives share markers, and may be most of the slide. The heaviest marker that is up
    counts for nothing, since one gene alone can pick any group of cells; a real type has others up with it. Markers that the slide
    hardly shows in any cell count neither way.
    """
    weights = np.clip(evidence.panel.weights, 0, None)
    lineages = np.asarray(evidence.panel.lineages)
    inside = candidate[:, None] == np.arange(weights.shape[1])
    outside = lineages[candidate][:, None] != lineages
    seen = weights * (np.asarray(evidence.own.mean(axis=0)).reshape(-1, 1) > _SEEN)
    # Where all cells are of one lineage nothing is left to compare with: presence decides.
    up = seen * (_means(evidence.own, inside) + _PSEUDO >= _UP * (_means(evidence.own, outside) + _PSEUDO))
    first = up.max(axis=0)
    return np.asarray((up.sum(axis=0) - first) / (seen.sum(axis=0) - first + _DOUBT) * inside.any(axis=0))


def null_type_support(evidence: CellExpression, seed: int) -> float:
    """Give the support that a cell's type has in one case of twenty, if the rows of the marker table are dealt to other genes.

    A type with less than that is no better known than by a table that knows nothing. At most `_DEALT_CELLS` cells are looked at.
    """
    rng = np.random.default_rng(seed)
    n = len(evidence.smoothed)
    rows = rng.choice(n, min(n, _DEALT_CELLS), replace=False)
    weights = evidence.panel.weights
    marked = np.flatnonzero(weights.any(axis=1))
    found = []
    for _ in range(_DEALS):
        dealt = weights.copy()
        dealt[marked] = weights[rng.permutation(marked)]
        drawn = replace(evidence, panel=replace(evidence.panel, weights=dealt), own=evidence.own[rows], smoothed=evidence.smoothed[rows])
        candidate = marker_shares(drawn, discount=True).argmax(axis=1)
        found.append(type_support(drawn, candidate)[candidate])
    return float(np.quantile(found, 0.95))


_DEALS, _DEALT_CELLS = 40, 5000


def _means(x: sparse.csr_matrix, member: NDArray[np.bool_]) -> Floats:
    """Average the rows of `x` in each column of `member`, (genes, groups); 0 for groups without rows."""
    return np.asarray((x.T @ member.astype(float)) / np.maximum(member.sum(axis=0), 1))


def abstention_reasons(verdict: TypeAssignment, least: float) -> list[str | None]:
    """Say why each cell has no label; None where it has one.

    Parameters
    ----------
    verdict
        What `judge` found.
    least
        Confidence below which a cell is Unresolved; one whose group reaches it is known by its lineage only.
    """
    unsure = verdict.confidence < least
    choices = [
        (unsure & (verdict.support < ENOUGH_SUPPORT), WEAK_SUPPORT),
        (unsure & (verdict.group_confidence >= least), LINEAGE_ONLY),
        (unsure, CONFLICTING_LINEAGES),
    ]
    codes = np.select([mask for mask, _ in choices], range(len(choices)), default=len(choices))
    names = [*(name for _, name in choices), None]
    return [names[code] for code in codes]
