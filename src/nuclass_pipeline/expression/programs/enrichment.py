"""Enrichment of gene sets among a cluster's markers, or at the top of its ranked panel."""

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control, hypergeom, norm

from nuclass_pipeline.arrays import Booleans, Floats
from nuclass_pipeline.expression.markers import MAX_P
from nuclass_pipeline.expression.programs.library import GeneSet

Positions = NDArray[np.intp] | NDArray[np.uint16]

WEIGHT = 0.5
"""Power of |z| in the running sum. GSEA's 1 is too much, because one or two genes with a giant z on a large slide would decide alone."""

# Scores this close are equal in p, because equal scores of different sets differ by rounding.
_ROUNDING = 1e-9

# Elements of a block, because a few arrays of this size stay in a core's cache.
_CHUNK = 2**17


@dataclass(frozen=True)
class Hit:
    """One tested set.

    Attributes
    ----------
    gene_set
        The set, reduced to the panel.
    statistic
        Fold enrichment (`over_representation`), or normalised enrichment score (`rank_enrichment`).
    p
        One-sided p value.
    q
        Benjamini–Hochberg over all sets tested.
    genes
        Genes that carry it, strongest first.
    """

    gene_set: GeneSet
    statistic: float
    p: float
    q: float
    genes: tuple[str, ...]


def sets_on_panel(library: Iterable[GeneSet], panel: Collection[str], min_size: int, max_size: int) -> list[GeneSet]:
    """Return the sets reduced to the panel, those with `min_size` to `max_size` genes.

    A set of the whole panel is left out, because there is no gene outside to compare it with.
    """
    reduced = (replace(one, genes=one.genes.intersection(panel)) for one in library)
    return [one for one in reduced if min_size <= len(one.genes) <= max_size and len(one.genes) < len(panel)]


def over_representation(sets: Sequence[GeneSet], markers: Sequence[str], panel_size: int) -> list[Hit]:
    """Test for sets with more of the markers than expected by chance (over-representation analysis).

    The panel has N genes, K of them in the set; n are markers, k of them in the set. p = P(X ≥ k) for X ~ Hypergeometric(N, K, n).
    The statistic is the fold enrichment (k / n) / (K / N). q is Benjamini–Hochberg over all of `sets`, hit or not.

    Parameters
    ----------
    sets
        Sets reduced to the panel.
    markers
        Genes of the panel, strongest first, without repeats.
    panel_size
        Number of genes on the panel, N.

    Returns
    -------
    One hit per set, in their order.
    """
    if not sets:
        return []
    genes = [tuple(gene for gene in markers if gene in one.genes) for one in sets]
    k = np.array([len(found) for found in genes])
    size = np.array([len(one.genes) for one in sets])
    p = np.asarray(hypergeom.sf(k - 1, panel_size, size, len(markers)), dtype=np.float64)
    fold = k / max(len(markers), 1) / (size / panel_size)
    return _hits(sets, fold, p, genes)


def rank_enrichment(
    sets: Sequence[GeneSet], scores: Floats, panel: Sequence[str], *, permutations: int, fdr: float, seed: int
) -> list[list[Hit]]:
    """Test for sets whose genes lie at the top of each cluster's ranked panel.

    The enrichment score ES is that of GSEA (Subramanian et al. 2005) with weight `WEIGHT`. The running sum over the ranked genes rises at
    a member by its share of |score|^weight, and falls by 1 / (N − K) elsewhere. ES is its largest deviation from zero. Random sets of K
    genes are the null.
    p = (1 + #{null ≥ ES}) / (1 + permutations), which is never zero (Phipson & Smyth 2010). The statistic is NES, ES over the mean of the
    null values of its sign. The test is one-sided, because a program that a cluster lacks is not its own: sets at the bottom get p near 1.
    q is Benjamini–Hochberg over all of `sets`. A hit's genes are those of its leading edge that are up in the cluster by themselves.

    Parameters
    ----------
    sets
        Sets reduced to the panel.
    scores
        z of each gene in each cluster, (clusters, genes); equal ones are ranked by gene name.
    panel
        Names of the genes, (genes,).
    permutations
        Fewest random sets per set size; raised to sets / fdr, so that one set alone can reach q ≤ fdr.
    fdr
        Highest q of a reliable set.
    seed
        Seed of the random sets, which all clusters share.

    Returns
    -------
    For each cluster one hit per set, in the order of `sets`.
    """
    if not sets:
        return [[] for _ in scores]
    draws = _draw(len(panel), max(len(one.genes) for one in sets), max(permutations, math.ceil(len(sets) / fdr)), seed)
    panels = [_Ranking.of(row, panel) for row in scores]
    statistic, p = np.empty((2, len(panels), len(sets)))
    by_size = sorted(range(len(sets)), key=lambda i: len(sets[i].genes))
    for size, group in groupby(by_size, key=lambda i: len(sets[i].genes)):
        members, null = list(group), np.sort(draws[:, :size], axis=1)
        for row, one in enumerate(panels):
            found = one.score(np.stack([one.positions(sets[i].genes) for i in members]))
            statistic[row, members], p[row, members] = _against(found, one.score(null))
    genes = ([one.carriers(member.genes) for member in sets] for one in panels)
    return [_hits(sets, *columns) for columns in zip(statistic, p, genes, strict=True)]


@dataclass(frozen=True)
class _Ranking:
    """The panel of one cluster from the highest score to the lowest.

    Attributes
    ----------
    genes
        Names in that order, (genes,).
    place
        Gene → its position in that order.
    weights
        |score|^`WEIGHT`, (genes,).
    up
        Whether a gene is significantly up by itself, (genes,).
    """

    genes: list[str]
    place: dict[str, int]
    weights: Floats
    up: Booleans

    @classmethod
    def of(cls, scores: Floats, panel: Sequence[str]) -> "_Ranking":
        order = np.lexsort((np.asarray(panel, dtype=str), -scores))
        genes = [panel[i] for i in order]
        # Genes are tested by themselves too, because the leading edge of a set may end far down the ranking.
        up = false_discovery_control(norm.sf(scores)) <= MAX_P
        return cls(genes, {gene: i for i, gene in enumerate(genes)}, np.abs(scores[order]) ** WEIGHT, up[order])

    def positions(self, genes: Iterable[str]) -> NDArray[np.intp]:
        return np.sort(np.array([self.place[gene] for gene in genes], dtype=np.intp))

    def score(self, positions: Positions) -> Floats:
        """Return the enrichment score of each row of sorted positions, (sets, size)."""
        rows = max(1, _CHUNK // positions.shape[1])
        return np.concatenate([_deviation(*self._sums(positions[i : i + rows])) for i in range(0, len(positions), rows)])

    def carriers(self, genes: Iterable[str]) -> tuple[str, ...]:
        positions = self.positions(genes)
        after, before = self._sums(positions[None])
        if _deviation(after, before)[0] <= 0:
            return ()
        return tuple(self.genes[i] for i in positions[: after[0].argmax() + 1] if self.up[i])

    def _sums(self, positions: Positions) -> tuple[Floats, Floats]:
        """Return the running sum just after and just before each member."""
        size = positions.shape[1]
        weight = self.weights[positions]
        total = weight.sum(axis=1, keepdims=True)
        step = np.divide(weight, total, out=np.zeros_like(weight), where=total > 0)
        after = step.cumsum(axis=1) - (positions - np.arange(size)) / (len(self.genes) - size)
        return after, after - step


def _deviation(after: Floats, before: Floats) -> Floats:
    high, low = after.max(axis=1), before.min(axis=1)
    return np.asarray(np.where(high >= -low - _ROUNDING, high, low), dtype=np.float64)


def _draw(n: int, most: int, permutations: int, seed: int) -> NDArray[np.uint16]:
    """Draw ordered random genes, (permutations, most): the first K of a row are a random set of K."""
    # 16 bits, because no panel has more than 65,535 genes and the table has permutations × genes of the largest set.
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // n)
    rows = (min(step, permutations - i) for i in range(0, permutations, step))
    return np.concatenate([rng.random((count, n), dtype=np.float32).argsort(axis=1)[:, :most].astype(np.uint16) for count in rows])


def _against(found: Floats, null: Floats) -> tuple[Floats, Floats]:
    """Return NES and p of scores against the null of their size."""
    null = np.sort(null)
    above = len(null) - np.searchsorted(null, found - _ROUNDING, side="left")
    scale = np.where(found > 0, _mean(null[null > 0]), _mean(-null[null < 0]))
    return np.divide(found, scale, out=np.zeros_like(found), where=scale > 0), (1 + above) / (1 + len(null))


def _mean(x: Floats) -> float:
    return float(x.mean()) if len(x) else 0.0


def _hits(sets: Sequence[GeneSet], statistic: Floats, p: Floats, genes: Iterable[tuple[str, ...]]) -> list[Hit]:
    columns = zip(sets, statistic.tolist(), p.tolist(), false_discovery_control(p).tolist(), genes, strict=True)
    return [Hit(*row) for row in columns]


def reliable(hits: Iterable[Hit], fdr: float, min_overlap: int) -> Iterator[Hit]:
    """Yield the hits with q ≤ `fdr` and `min_overlap` genes, best first."""
    kept = (hit for hit in hits if hit.q <= fdr and len(hit.genes) >= min_overlap)
    yield from sorted(kept, key=strength)


def strength(hit: Hit) -> tuple[float, float, str]:
    """Return a sort key: p, then the statistic from high to low, then the id."""
    return hit.p, -hit.statistic, hit.gene_set.term
