"""How opinions become one answer and its confidence, by hand and against plain loops."""

from dataclasses import replace

import numpy as np
from scipy import sparse
from scipy.stats import norm

from nuclass_pipeline.knowledge.markers import Panel
from nuclass_pipeline.labeling.confidence import TypeAssignment, abstention_reasons, assign_types
from nuclass_pipeline.labeling.evidence import (
    CellExpression,
    Rules,
    TypeCentroids,
    TypeProbabilities,
    choose_seeds,
    gather_expression,
    group_members,
    marker_shares,
    temper,
)
from nuclass_pipeline.labeling.neighborhood import Neighborhood

TYPES = ("Fibroblast", "T_Cell", "Tumor_Associated_Fibroblast")


def evidence(n: int) -> CellExpression:
    """Make cells that are alike and support every type fully: what is left is arithmetic of opinions."""
    x = sparse.csr_matrix(np.ones((n, 3)))
    others = (np.arange(n)[:, None] + np.arange(1, n)) % n
    neighbors = Neighborhood(others, np.ones(others.shape), 1.0)
    return CellExpression(Panel(TYPES, np.eye(3)), x, x.toarray(), neighbors, x, x.toarray())


def test_profiles_are_normal_around_the_seeds_with_one_variance():
    shares = np.array([[0.81, 0.19, 0], [0.64, 0.36, 0], [0.25, 0.75, 0], [0.16, 0.84, 0], [0.36, 0.64, 0]])
    chosen = np.array([0, 0, 1, 1, -1])
    found = TypeCentroids.learn(shares, chosen).compare(shares)
    roots = np.sqrt(shares)
    centers = [roots[:2].mean(axis=0), roots[2:4].mean(axis=0)]
    spread = np.sqrt(np.mean([(roots[i] - centers[chosen[i]]) ** 2 for i in range(4)], axis=0) + 1e-3)
    likelihood = np.array([[np.prod(norm.pdf(cell, center, spread)) for center in centers] for cell in roots])
    np.testing.assert_allclose(found[:, :2], likelihood / likelihood.sum(axis=1, keepdims=True))
    assert (found[:, 2] == 0).all()


def test_without_seeds_the_shares_stand():
    shares = np.full((4, 3), 1 / 3)
    assert TypeCentroids.learn(shares, choose_seeds(shares)).compare(shares) is shares


def test_confidence_is_the_geometric_mean_over_opinions():
    answer = np.array([[0.45, 0.1, 0.45], [0.31, 0.4, 0.29]])
    one = np.array([[0.4, 0.2, 0.4], [0.5, 0.3, 0.2]])
    two = np.array([[0.2, 0.2, 0.6], [0.9, 0.05, 0.05]])
    cells = evidence(2)
    found = assign_types(cells, TypeProbabilities(answer, (one, two)))
    # Together the two kinds of fibroblast outweigh the T cell in both rows.
    assert [TYPES[i] for i in found.candidate] == ["Fibroblast", "Fibroblast"]
    assert found.purity.tolist() == [1, 1]
    np.testing.assert_allclose(found.confidence, np.sqrt([0.4 * 0.2, 0.5 * 0.9]))
    np.testing.assert_allclose(found.group_confidence, np.sqrt([0.8 * 0.8, 0.7 * 0.95]))
    np.testing.assert_allclose(found.margin, [0, 0.2])
    np.testing.assert_allclose(found.group_margin, [0.6, 0.4])


def test_neighbors_may_be_cells_of_another_verdict():
    answer = np.array([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0], [0.8, 0.2, 0.0]])
    slide = assign_types(evidence(3), TypeProbabilities(answer, (answer,)))
    assert slide.purity.tolist() == [0.5, 0, 0.5]
    further = replace(evidence(1), neighbors=Neighborhood(np.array([[0, 0, 1, 2]]), np.array([[1.0, 1.0, 0.5, 0.5]]), 1.0))
    found = assign_types(further, TypeProbabilities(answer[:1], (answer[:1],)), slide=slide)
    assert found.purity.tolist() == [2.5 / 3]
    assert found.type_support is slide.type_support


def test_other_groups_lead_to_another_choice():
    answer = np.array([[0.3, 0.4, 0.3], [0.3, 0.4, 0.3]])
    opinions = TypeProbabilities(answer, (answer,))
    assert assign_types(evidence(2), opinions).candidate.tolist() == [0, 0]
    assert assign_types(evidence(2), opinions, groups=("a", "b", "c")).candidate.tolist() == [1, 1]


def test_a_mixed_cell_is_of_the_lineage_that_dominates_its_transcripts():
    """A third of a T cell's transcripts in a fibroblast do not make it one, though no unmixed fibroblast shows any."""
    rng = np.random.default_rng(0)
    genes = {"Fibroblast": [0, 1, 2, 3], "T_Cell": [4, 5, 6, 7], "Tumor_Associated_Fibroblast": [8, 9, 10, 11]}
    profile = np.stack([np.isin(np.arange(12), genes[name]) * 0.24 + 0.01 / 3 for name in TYPES])
    truth = rng.integers(0, 3, 600)
    mixed = np.arange(600) < 150
    truth[mixed] = 0
    share = np.where(mixed, 0.35, 0.0)[:, None]
    x = rng.poisson(100 * ((1 - share) * profile[truth] + share * profile[1]))
    weights = np.stack([np.isin(np.arange(12), genes[name]) * 1.0 for name in TYPES], axis=1)
    cells = gather_expression(Panel(TYPES, weights), sparse.csr_matrix(x.astype(float)), np.log1p(x).astype(float))
    found = assign_types(cells, Rules.learn(cells).rank(cells))
    assert (found.candidate == truth).mean() > 0.99
    assert np.quantile(found.confidence[mixed], 0.95) < np.quantile(found.confidence[~mixed], 0.05)


def test_softened_odds_are_roots_and_keep_their_order():
    profiles = np.array([[0.8, 0.1, 0.1], [1e-9, 1 - 1e-9, 0.0]])
    found = temper(profiles)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(found[0, 0] / found[0, 1], 2)
    np.testing.assert_allclose(found[1, 1] / found[1, 0], 1000, rtol=1e-6)
    assert found[1, 2] == 0
    assert (found.argmax(axis=1) == profiles.argmax(axis=1)).all()


def test_seeds_are_the_fifth_with_the_widest_margins():
    shares = np.random.default_rng(1).dirichlet([1, 1, 1], 300)
    chosen = choose_seeds(shares)
    first, ordered = shares.argmax(axis=1), np.sort(shares, axis=1)
    gap = ordered[:, -1] - ordered[:, -2]
    for column in range(3):
        own = first == column
        assert (chosen[own] >= 0).sum() == int(0.2 * own.sum())
        assert gap[chosen == column].min() >= gap[own & (chosen < 0)].max()
    assert (first[chosen >= 0] == chosen[chosen >= 0]).all()


def test_a_cell_whose_lineage_alone_is_sure_is_known_by_its_lineage():
    sure, unsure = 0.9, 0.3
    leaf = np.array([sure, unsure, unsure, unsure])
    group = np.array([sure, sure, unsure, sure])
    rest = np.ones(4)
    found = abstention_reasons(
        TypeAssignment(np.array([0, 0, 0, 1]), np.zeros(4, int), leaf, group, rest, rest, rest, np.array([1, 0.2])), 0.6
    )
    assert found == [None, "lineage only", "conflicting lineages", "weak support"]


def test_a_share_counts_by_the_fourth_root_of_what_its_lineage_attains():
    pure = np.array([[0.9, 0.05, 0.05], [0.35, 0.6, 0.05]])
    rng = np.random.default_rng(0)
    x = sparse.csr_matrix(rng.poisson(2000 * np.repeat(pure, 100, axis=0)).astype(float))
    panel = Panel(TYPES, np.eye(3))
    cells = gather_expression(panel, x, np.log1p(x.toarray()))
    rules = Rules.learn(cells)
    # Fibroblasts, two types of one lineage, show 95 % of their markers; T cells only 60 %.
    member, code = group_members(panel.lineages)
    np.testing.assert_allclose(rules.reference_shares[code], [0.95, 0.6, 0.95], atol=0.02)
    evenly = marker_shares(cells, discount=True) @ member / rules.reference_shares**0.25
    np.testing.assert_allclose(rules.rank(cells).answer @ member, evenly**2 / (evenly**2).sum(axis=1, keepdims=True))


def test_a_lineage_without_seeds_is_given_no_handicap():
    x = sparse.csr_matrix(np.repeat([[90.0, 10.0, 0.0], [80.0, 20.0, 0.0]], 30, axis=0))
    rules = Rules.learn(gather_expression(Panel(TYPES, np.eye(3)), x, np.log1p(x.toarray())))
    assert rules.reference_shares[1] == rules.attained[0] > 0.8
