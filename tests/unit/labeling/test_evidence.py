"""Marker shares, seeds, centroids and ranks of cell types, by hand and on planted types."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import norm

from nuclass_pipeline.knowledge.markers import Panel
from nuclass_pipeline.labeling.confidence import assign_types
from nuclass_pipeline.labeling.evidence import CellExpression, choose_seeds, gather_expression, lineage_members, marker_shares
from nuclass_pipeline.labeling.neighborhood import Neighborhood
from nuclass_pipeline.labeling.rules import Rules, TypeCentroids, temper

TYPES = ("Fibroblast", "T_Cell", "Tumor_Associated_Fibroblast")


def test_centroids_are_normal_around_the_seeds_with_one_variance():
    shares = np.array([[0.81, 0.19, 0], [0.64, 0.36, 0], [0.25, 0.75, 0], [0.16, 0.84, 0], [0.36, 0.64, 0]])
    seeds = np.array([0, 0, 1, 1, -1])
    found = TypeCentroids.fit(shares, seeds).probabilities(shares)
    roots = np.sqrt(shares)
    centers = [roots[:2].mean(axis=0), roots[2:4].mean(axis=0)]
    spread = np.sqrt(np.mean([(roots[i] - centers[seeds[i]]) ** 2 for i in range(4)], axis=0) + 1e-3)
    likelihood = np.array([[np.prod(norm.pdf(cell, center, spread)) for center in centers] for cell in roots])
    np.testing.assert_allclose(found[:, :2], likelihood / likelihood.sum(axis=1, keepdims=True))
    assert (found[:, 2] == 0).all()


def test_without_seeds_the_probabilities_are_the_shares():
    shares = np.full((4, 3), 1 / 3)
    assert TypeCentroids.fit(shares, choose_seeds(shares)).probabilities(shares) is shares


def test_a_doublet_is_of_the_lineage_that_dominates_its_transcripts():
    """Mix a third of a T cell's transcripts into fibroblasts: they stay fibroblasts, although pure ones have no such transcripts."""
    rng = np.random.default_rng(0)
    genes = {"Fibroblast": [0, 1, 2, 3], "T_Cell": [4, 5, 6, 7], "Tumor_Associated_Fibroblast": [8, 9, 10, 11]}
    profile = np.stack([np.isin(np.arange(12), genes[name]) * 0.24 + 0.01 / 3 for name in TYPES])
    truth = rng.integers(0, 3, 600)
    doublet = np.arange(600) < 150
    truth[doublet] = 0
    share = np.where(doublet, 0.35, 0.0)[:, None]
    x = rng.poisson(100 * ((1 - share) * profile[truth] + share * profile[1]))
    weights = np.stack([np.isin(np.arange(12), genes[name]) * 1.0 for name in TYPES], axis=1)
    cells = gather_expression(Panel(TYPES, weights), sparse.csr_matrix(x.astype(float)), np.log1p(x).astype(float))
    found = assign_types(cells, Rules.fit(cells).rank(cells))
    assert (found.candidate == truth).mean() > 0.99
    assert np.quantile(found.confidence[doublet], 0.95) < np.quantile(found.confidence[~doublet], 0.05)


def test_tempered_odds_are_roots_and_keep_their_order():
    probabilities = np.array([[0.8, 0.1, 0.1], [1e-9, 1 - 1e-9, 0.0]])
    found = temper(probabilities)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(found[0, 0] / found[0, 1], 2)
    np.testing.assert_allclose(found[1, 1] / found[1, 0], 1000, rtol=1e-6)
    assert found[1, 2] == 0
    assert (found.argmax(axis=1) == probabilities.argmax(axis=1)).all()


def test_seeds_are_the_fifth_with_the_widest_margins():
    shares = np.random.default_rng(1).dirichlet([1, 1, 1], 300)
    seeds = choose_seeds(shares)
    first, ordered = shares.argmax(axis=1), np.sort(shares, axis=1)
    gap = ordered[:, -1] - ordered[:, -2]
    for column in range(3):
        own = first == column
        assert (seeds[own] >= 0).sum() == int(0.2 * own.sum())
        assert gap[seeds == column].min() >= gap[own & (seeds < 0)].max()
    assert (first[seeds >= 0] == seeds[seeds >= 0]).all()


def test_a_share_is_divided_by_the_fourth_root_of_its_lineages_reference_share():
    pure = np.array([[0.9, 0.05, 0.05], [0.35, 0.6, 0.05]])
    rng = np.random.default_rng(0)
    x = sparse.csr_matrix(rng.poisson(2000 * np.repeat(pure, 100, axis=0)).astype(float))
    panel = Panel(TYPES, np.eye(3))
    # Without ambient expression, which is 35 % of these fibroblast markers.
    cells = replace(gather_expression(panel, x, np.log1p(x.toarray())), ambient=np.zeros(3))
    rules = Rules.fit(cells)
    # Fibroblasts, two types of one lineage, show 95 % of their markers; T cells only 60 %.
    member, code = lineage_members(panel.lineages)
    np.testing.assert_allclose(rules.reference_shares[code], [0.95, 0.6, 0.95], atol=0.02)
    evenly = marker_shares(cells, discount=True) @ member / rules.reference_shares**0.25
    np.testing.assert_allclose(rules.rank(cells).for_choice @ member, evenly**2 / (evenly**2).sum(axis=1, keepdims=True))


def test_a_lineage_without_seeds_has_the_largest_reference_share():
    x = sparse.csr_matrix(np.repeat([[90.0, 10.0, 0.0], [80.0, 20.0, 0.0]], 30, axis=0))
    rules = Rules.fit(gather_expression(Panel(TYPES, np.eye(3)), x, np.log1p(x.toarray())))
    assert rules.reference_shares[1] == rules.reference_shares[0] > 0.8


def faint_types(seed: int, n: int = 800) -> tuple[CellExpression, np.ndarray]:
    """Draw cells of four types with 30 transcripts of genes that are not markers, and 1.5 of two markers, and their types.

    A fifth of the transcripts is ambient. A quarter of the cells has no transcript of its own markers, so that only the neighbours show
    its type.
    """
    rng = np.random.default_rng(seed)
    gene_type, is_marker = np.repeat(np.arange(4), 12), np.tile(np.arange(12) < 2, 4)
    rates = (gene_type == np.arange(4)[:, None]) * np.where(is_marker, 0.75, 3.0)
    truth = rng.integers(0, 4, n)
    x = rng.poisson((0.8 * rates + 0.2 * rates.mean(axis=0))[truth]).astype(float)
    logged = np.log1p(x / x.sum(axis=1, keepdims=True) * np.median(x.sum(axis=1)))
    u, s, _ = np.linalg.svd(logged - logged.mean(axis=0), full_matrices=False)
    weights = 3.0 * (is_marker[:, None] & (gene_type[:, None] == np.arange(4)))
    types = ("B_Cell", "Fibroblast", "Macrophage", "T_Cell")
    return gather_expression(Panel(types, weights), sparse.csr_matrix(x), (u * s)[:, :8]), truth


@pytest.mark.parametrize("seed", range(3))
def test_cells_with_few_marker_transcripts_have_the_type_of_their_neighbors(seed):
    cells, truth = faint_types(seed)
    own_markers = (cells.counts @ cells.panel.weights)[np.arange(len(truth)), truth]
    assert (own_markers == 0).mean() > 0.2
    found = assign_types(cells, Rules.fit(cells).rank(cells))
    # 0.98, because with less weight of the neighbours (an OWN_SHARE of 0.9) it is 0.92 to 0.95.
    assert (found.candidate == truth).mean() > 0.98


def test_both_marker_shares_of_cells_are_kept():
    cells, _ = faint_types(0, 60)
    np.testing.assert_array_equal(cells.shares, marker_shares(cells))
    np.testing.assert_array_equal(cells.discounted_shares, marker_shares(cells, discount=True))
    assert cells.shares is cells.shares
    # Markers of one type each have no discount: the two differ where types share a gene.
    shared = replace(cells, panel=Panel(cells.panel.types, cells.panel.weights + np.eye(48)[:, :4]))
    assert shared.shares is not cells.shares
    assert not np.array_equal(shared.shares, shared.discounted_shares)


def test_ambient_is_the_lowest_mean_over_the_lineages_that_a_gene_does_not_mark():
    own = np.repeat([[9.0, 1.0, 0.5, 4.0], [2.0, 8.0, 0.25, 4.0], [3.0, 1.5, 8.0, 4.0]], 30, axis=0)
    types = ("Fibroblast", "T_Cell", "Macrophage")
    weights = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 1], [0, 0, 0]], float)
    x = sparse.csr_matrix(own)
    cells = gather_expression(Panel(types, weights), x, own)
    depth = np.median(own.sum(axis=1)) / own.sum(axis=1)
    # Gene 2 marks both immune types, so the fibroblasts alone show its ambient level; gene 3 marks none.
    scaled = (own * depth[:, None])[::30]
    np.testing.assert_allclose(cells.ambient[:3], [scaled[1:, 0].min(), scaled[[0, 2], 1].min(), scaled[0, 2]], rtol=0.05)
    assert cells.ambient[3] == 0


def test_lineages_of_few_cells_show_no_ambient_expression():
    own = np.concatenate([np.tile([9.0, 1.0], (60, 1)), np.tile([0.0, 9.0], (19, 1))])
    cells = gather_expression(Panel(("Fibroblast", "T_Cell"), np.eye(2)), sparse.csr_matrix(own), own)
    # Twenty T cells would show that fibroblast markers have no ambient expression.
    assert cells.ambient[0] == 0
    assert cells.ambient[1] > 0.9


def test_a_type_without_seeds_has_its_share_of_the_lineages_markers():
    own = np.concatenate([np.tile([9.0, 0.0, 1.0], (60, 1)), np.tile([0.0, 9.0, 0.0], (60, 1)), np.tile([1.0, 0.0, 9.0], (3, 1))])
    x, alone = sparse.csr_matrix(own), Neighborhood(np.empty((len(own), 0), np.int64), np.empty((len(own), 0)), 1.0)
    cells = CellExpression(Panel(TYPES, np.eye(3)), x, own, alone, x, own, np.zeros(3))
    rules = Rules.fit(cells)
    assert rules.centroids.types.tolist() == [0, 1]
    ranked = rules.rank(cells)
    assert assign_types(cells, ranked).candidate[-3:].tolist() == [2, 2, 2]
    # Of the two kinds of fibroblast, the one without seeds has nine tenths of the markers.
    within = ranked.for_choice[-1, [0, 2]]
    np.testing.assert_allclose(within / within.sum(), [0.1, 0.9], rtol=1e-6)
