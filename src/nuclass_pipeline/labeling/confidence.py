"""One cell type per cell from the probabilities of types, its confidence, and the reason where a cell gets no label."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nuclass_pipeline.arrays import Booleans, Floats, Integers
from nuclass_pipeline.knowledge.markers import Panel
from nuclass_pipeline.labeling.evidence import CellExpression, TypeProbabilities, choose_types, lineage_members

# Half of a type's marker weight is up in cells that other markers chose; shuffled markers reach 0.1, and 0.35 in one type of twenty.
ENOUGH_SUPPORT = 0.5
"""Support from which confidence is not reduced."""

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
    confidence, broad_confidence, lineage_confidence
        How sure the type is, the type that contains it, and the lineage, 0 to 1, (cells,). The first two are equal where none contains it.
    margin, broad_margin, lineage_margin
        Difference to the second best of each, 0 to 1, (cells,).
    purity
        Weighted share of neighbours in expression with a candidate of the same lineage, (cells,).
    support, broad_support
        Support of the type on this slide, see `support.type_support`, and of the best type in the one that contains it, (cells,); 1 until
        they are known.
    """

    candidate: Integers
    lineage: Integers
    confidence: Floats
    broad_confidence: Floats
    lineage_confidence: Floats
    margin: Floats
    broad_margin: Floats
    lineage_margin: Floats
    purity: Floats
    support: Floats
    broad_support: Floats

    def downweighted(self, panel: Panel, support: Floats, null_support: float, marked: Booleans) -> "TypeAssignment":
        """Return the same with confidences in proportion to support below `ENOUGH_SUPPORT`, and 0 for support below `null_support`.

        A type that contains others is as well supported as the best of them, and a cell's lineage as well as that type.

        Parameters
        ----------
        panel
            Types and their lineages.
        support
            Support of each type, (types,).
        null_support
            What a table without knowledge reaches.
        marked
            Whether a cell shows any marker, (cells,); the confidences of others are 0.
        """
        weight = np.clip(support / ENOUGH_SUPPORT, 0, 1) * (support >= null_support)
        broad = _best_of(weight, panel.broader)[self.candidate] * marked
        return replace(
            self,
            support=support[self.candidate],
            broad_support=_best_of(support, panel.broader)[self.candidate],
            confidence=weight[self.candidate] * marked * self.confidence,
            broad_confidence=broad * self.broad_confidence,
            lineage_confidence=broad * self.lineage_confidence,
        )

    def broadened(self, panel: Panel, min_confidence: float, classes: Sequence[str]) -> "TypeAssignment":
        """Return the same with the containing type, where it is a class and surely that of the cell, and the type itself is not.

        Parameters
        ----------
        panel
            Types, and which of them contain others.
        min_confidence
            Confidence from which a type is sure.
        classes
            Types that cells can be labelled with.
        """
        above = np.array([panel.types.index(name) for name in panel.broader])[self.candidate]
        allowed = np.isin(panel.types, classes)
        unsure = (self.confidence < min_confidence) | ~allowed[self.candidate]
        broad = unsure & allowed[above] & (self.broad_confidence >= min_confidence)
        return replace(
            self,
            candidate=np.where(broad, above, self.candidate),
            confidence=np.where(broad, self.broad_confidence, self.confidence),
            margin=np.where(broad, self.broad_margin, self.margin),
            support=np.where(broad, self.broad_support, self.support),
        )


def contained(panel: Panel) -> Booleans:
    """Return whether each type shares its containing type with another type of the panel, (types,)."""
    member, code = lineage_members(panel.broader)
    return np.asarray(member.sum(axis=0)[code] > 1)


def _best_of(values: Floats, groups: Sequence[str]) -> Floats:
    """Return for each type the largest value in its group, (types,)."""
    member, code = lineage_members(groups)
    return np.asarray((values[:, None] * member).max(axis=0)[code])


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
    lineages = expression.panel.lineages if lineages is None else tuple(lineages)
    member, _ = lineage_members(lineages)
    candidate, lineage = choose_types(probabilities, lineages)
    of_neighbors = (lineage if slide is None else slide.lineage)[expression.neighbors.rows]
    purity = expression.neighbors.share(of_neighbors == lineage[:, None])
    neighbor_factor = (1 + purity) / 2
    by_lineage = [estimate @ member for estimate in probabilities.for_confidence]
    family_member, family = lineage_members(expression.panel.broader)
    by_family = [estimate @ family_member for estimate in probabilities.for_confidence]
    return TypeAssignment(
        candidate=candidate,
        lineage=lineage,
        confidence=neighbor_factor * _geometric_mean(probabilities.for_confidence, candidate),
        broad_confidence=neighbor_factor * _geometric_mean(by_family, family[candidate]),
        lineage_confidence=neighbor_factor * _geometric_mean(by_lineage, lineage),
        margin=_lead(probabilities.for_confidence[0], candidate),
        broad_margin=_lead(by_family[0], family[candidate]),
        lineage_margin=_lead(by_lineage[0], lineage),
        purity=purity,
        support=np.ones(len(candidate)),
        broad_support=np.ones(len(candidate)),
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
