"""Scores against brute force, cases by hand and invariances."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import davies_bouldin_score, silhouette_score

from nuclass_pipeline.config.expression import DomainsConfig
from nuclass_pipeline.expression.domains.factors import Factors
from nuclass_pipeline.expression.domains.graphs import near, spatial_graph
from nuclass_pipeline.expression.domains.scores import SAMPLE, adjacency, chaos, explained_variance, marker_scores, morans_i, separation


def slow_moran(values, graph, groups=None):
    """Compute Moran's I by two loops over all pairs."""
    a = graph.toarray()
    w = np.divide(a, a.sum(axis=1, keepdims=True), out=np.zeros_like(a), where=a.sum(axis=1, keepdims=True) > 0)
    groups = np.zeros(len(values), int) if groups is None else groups
    z = values - np.array([values[groups == group].mean() for group in groups])
    products = sum(w[i, j] * z[i] * z[j] for i in range(len(z)) for j in range(len(z)))
    return len(z) / w.sum() * products / (z**2).sum()


def test_morans_i_equals_its_double_sum(toy):
    graph = spatial_graph(*toy, DomainsConfig())
    rng = np.random.default_rng(0)
    values, groups = rng.exponential(size=(60, 70)), rng.integers(0, 3, 60)
    assert morans_i(values, graph) == pytest.approx([slow_moran(column, graph) for column in values.T])
    assert morans_i(values, graph, groups)[:5] == pytest.approx([slow_moran(column, graph, groups) for column in values.T[:5]])
    assert morans_i(sparse.csr_array(values), graph) == pytest.approx(morans_i(values, graph))


def test_morans_i_of_rings():
    ring = np.roll(np.eye(12), 1, axis=1)
    graph = sparse.csr_array(ring + ring.T)
    alternating, halves, constant = np.tile([1.0, -1], 6), np.repeat([1.0, 0], 6), np.ones(12)
    found = morans_i(np.column_stack([alternating, halves, constant]), graph)
    assert found[:2] == pytest.approx([-1, 2 / 3])
    assert np.isnan(found[2])


def test_morans_i_of_noise_has_its_expectation():
    rng = np.random.default_rng(1)
    graph = near(rng.uniform(0, 700, (2000, 2)), np.zeros(2000), 40)
    assert morans_i(rng.normal(size=(2000, 200)), graph).mean() == pytest.approx(-1 / 1999, abs=1.5e-3)


def test_adjacency_counts_edges(toy):
    graph = near(*toy, 80)
    domains = np.random.default_rng(0).integers(0, 3, 60)
    same = [domains[i] == domains[j] for i in range(60) for j in range(60) if graph[i, j]]
    assert adjacency(graph, domains) == pytest.approx(np.mean(same))
    assert adjacency(graph, np.zeros(60, int)) == 1
    assert np.isnan(adjacency(near(*toy, 80)[59:, 59:], np.zeros(1, int)))


def test_chaos_by_hand():
    """Variances 2.25 and 0.25 give the unit √1.25; nearest in the domain: 1, 1, 2, 2."""
    xy_um = np.array([[0, 0], [0, 1], [3, 0], [3, 1]], float)
    assert chaos(xy_um, np.zeros(4), np.array([0, 0, 1, 1])) == pytest.approx(1 / np.sqrt(1.25))
    assert chaos(xy_um, np.zeros(4), np.array([0, 1, 0, 1])) == pytest.approx(3 / np.sqrt(1.25))
    assert chaos(xy_um, np.zeros(4), np.array([0, 0, 1, 2])) == pytest.approx(1 / np.sqrt(1.25)), "cells that are alone are left out"
    assert np.isnan(chaos(xy_um, np.zeros(4), np.arange(4)))


def test_chaos_is_invariant_to_turns_units_and_places_of_sections():
    rng = np.random.default_rng(0)
    xy_um, domains, sections = rng.uniform(0, [100, 400], (80, 2)), rng.integers(0, 3, 80), np.repeat([0, 1], 40)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    moved = np.where(sections[:, None] == 1, 7 * xy_um + 1000, xy_um)
    expected = chaos(xy_um, sections, domains)
    assert chaos(xy_um @ turn, sections, domains) == pytest.approx(expected)
    assert chaos(moved, sections, domains) == pytest.approx(expected)
    alone = [chaos(xy_um[sections == name], np.zeros(40), domains[sections == name]) for name in (0, 1)]
    assert expected == pytest.approx(np.mean(alone))


def test_separation_is_that_of_scikit_learn_where_all_cells_fit():
    rng = np.random.default_rng(0)
    domains = rng.integers(0, 3, 200)
    weights = rng.random((200, 4)) + domains[:, None]
    silhouette, davies_bouldin, drawn = separation(weights, domains, seed=0)
    assert drawn == 200
    assert silhouette == pytest.approx(silhouette_score(weights, domains))
    assert davies_bouldin == pytest.approx(davies_bouldin_score(weights, domains))
    assert np.isnan(separation(weights, np.zeros(200, int), seed=0)[:2]).all()


def test_separation_draws_from_domains_in_proportion(monkeypatch):
    seen = []
    monkeypatch.setattr("nuclass_pipeline.expression.domains.scores.silhouette_score", lambda points, codes: seen.append(codes) or 0.0)
    domains = np.repeat([0, 1, 2], [30_000, 9_000, 1_000])
    assert separation(np.random.default_rng(0).random((40_000, 2)), domains, seed=0)[2] == SAMPLE
    assert np.bincount(seen[0]) == pytest.approx([7500, 2250, 250], abs=1)


def test_explained_variance_is_the_dense_one_and_zero_for_the_means():
    rng = np.random.default_rng(0)
    x, w, h = rng.random((30, 8)) * (rng.random((30, 8)) < 0.5), rng.random((30, 3)), rng.random((3, 8))
    dense = 1 - ((x - w @ h) ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum()
    assert explained_variance(sparse.csr_array(x), Factors(w, h)) == pytest.approx(dense)
    means = Factors(np.ones((30, 1)), x.mean(axis=0, keepdims=True))
    assert explained_variance(sparse.csr_array(x), means) == pytest.approx(0, abs=1e-12)


def test_perfect_markers_have_perfect_scores():
    """Three domains of unequal size, each with five genes of its own."""
    domains = np.repeat([0, 1, 2], [30, 20, 10])
    x = np.kron(np.eye(3), np.ones(5))[domains] * np.random.default_rng(0).uniform(1, 2, (60, 15))
    expected = {"cmc": 1, "cmc_weighted": 1, "specificity": 1, "mer": 0}
    assert marker_scores(sparse.csr_array(x), domains) == pytest.approx(expected)


def test_marker_scores_by_hand():
    """Half of the cells of the small domain express none of its markers, and a tenth of the large one express the small one's."""
    domains = np.repeat([0, 1], [80, 20])
    x = np.kron(np.eye(2), np.ones(5))[domains] * 2.0
    x[80:90] = 0
    x[:8] = np.r_[np.zeros(5), np.ones(5)]
    found = marker_scores(sparse.csr_array(x), domains)
    assert found["cmc"] == pytest.approx((0.9 + 0.5) / 2)
    assert found["cmc_weighted"] == pytest.approx(0.8 * 0.9 + 0.2 * 0.5)
    assert found["specificity"] == pytest.approx(((0.9 - 0) + (0.5 - 0.1)) / 2)
    assert found["mer"] == pytest.approx(8 / 100)


def test_lone_cells_and_a_single_domain_have_no_markers():
    x = sparse.csr_array(np.random.default_rng(0).random((20, 8)))
    assert np.isnan(list(marker_scores(x, np.zeros(20, int)).values())).all()
    domains = np.r_[np.zeros(10, int), np.ones(9, int), 2]
    assert np.isfinite(list(marker_scores(x, domains).values())).all()
