"""The annotator `rules`: the type that dominates a cell's transcripts comes first."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import softmax

from nuclass_pipeline.arrays import Floats, Integers
from nuclass_pipeline.knowledge.markers import Panel
from nuclass_pipeline.labeling.evidence import (
    CellExpression,
    TypeProbabilities,
    choose_seeds,
    lineage_members,
    marker_shares,
    shares_of_rows,
)

# Tuned on the breast slide (docs/development.md). Without it, lineages with faint markers lose their doublets to others; with 1, they
# take cells of others, which cost 4 % of accuracy.
SHARE_EXPONENT = 0.25
"""Exponent of the reference shares that a cell's marker shares are divided by."""

# Added to the variance of a root of a share, because a type that no seed shows would otherwise decide by the smallest trace.
_MIN_VARIANCE = 1e-3


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
    unsubtracted
        The same where ambient expression is not subtracted.
    reference_shares
        Share that the markers of each lineage reach in its own seeds, (lineages,).
    """

    centroids: "TypeCentroids"
    unsubtracted: "TypeCentroids"
    reference_shares: Floats

    @classmethod
    def fit(cls, expression: CellExpression) -> "Rules":
        """Fit centroids and reference shares to the seeds of a slide."""
        seeds = choose_seeds(expression.shares)
        plain = _unsubtracted_shares(expression)
        return cls(
            centroids=TypeCentroids.fit(expression.shares, seeds),
            unsubtracted=TypeCentroids.fit(plain, choose_seeds(plain)),
            reference_shares=_reference_shares(expression.panel, expression.discounted_shares, seeds),
        )

    def rank(self, expression: CellExpression) -> TypeProbabilities:
        """Compute the probabilities of the types of `expression.panel` for each cell."""
        by_type = self.centroids.probabilities(expression.shares)
        tempered = temper(by_type)
        choice, tempered_choice = (
            self._lineage_then_type(expression.panel, expression.discounted_shares, found) for found in (by_type, tempered)
        )
        # The second estimate without subtraction, because a cell that is mostly ambient expression has no type to be sure of.
        plain = temper(self.unsubtracted.probabilities(_unsubtracted_shares(expression)))
        return TypeProbabilities(choice, (tempered_choice, plain))

    def _lineage_then_type(self, panel: Panel, shares: Floats, by_type: Floats) -> Floats:
        member, code = lineage_members(panel.lineages)
        # Squared, because a doublet is of the lineage with most of its markers: 2/3 against 1/3 becomes 4/5 against 1/5.
        lineage = shares_of_rows((shares @ member / self.reference_shares**SHARE_EXPONENT) ** 2)
        return np.asarray(lineage[:, code] * self._inside(shares, by_type, member, code))

    def _inside(self, shares: Floats, by_type: Floats, member: Floats, code: Integers) -> Floats:
        """Return the probability of each type within its lineage, (cells, types).

        It is that of the centroids, which types without seeds do not have. Where such a type has most of the lineage's markers, the
        markers decide.
        """
        # A trace for each type, because a lineage whose types all have probability 0 would divide by 0.
        by_share, by_centroid = (values / (values @ member)[:, code] for values in (shares + 1e-9, by_type + 1e-9))
        seeded = np.isin(np.arange(len(code)), self.centroids.types)
        strongest = np.stack([(by_share * column).max(axis=1) for column in member.T], axis=1)[:, code]
        without_seeds = ((by_share >= strongest) & ~seeded) @ member > 0
        return np.where(without_seeds[:, code], by_share, by_centroid)


def _unsubtracted_shares(expression: CellExpression) -> Floats:
    return marker_shares(replace(expression, ambient=np.zeros_like(expression.ambient)))


def _reference_shares(panel: Panel, shares: Floats, seeds: Integers) -> Floats:
    """Return the median share of each lineage in its own seeds, (lineages,); the largest of these for a lineage without seeds."""
    member, code = lineage_members(panel.lineages)
    by_lineage, lineage = shares @ member, np.where(seeds >= 0, code[seeds], -1)
    own = [by_lineage[lineage == column, column] for column in range(member.shape[1])]
    medians = np.array([np.median(values) if len(values) else 0 for values in own])
    return np.where(medians > 0, medians, medians.max() or 1.0)


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
    return np.asarray(shares_of_rows(probabilities ** (1 / probabilities.shape[1])))
