"""Factorisations: published normalisation, known products, and an objective that never rises."""

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.decomposition import NMF

from nuclass_pipeline.expression.domains.factors import factorize, factorize_on_graph, log_rates
from nuclass_pipeline.expression.domains.graphs import near


def draw(seed=0, cells=60, genes=20, rank=3):
    """Return expression of exact `rank` with noise, centroids in µm, and a graph."""
    rng = np.random.default_rng(seed)
    x = rng.exponential(size=(cells, rank)) @ rng.exponential(size=(rank, genes)) + 0.1 * rng.random((cells, genes))
    x[x < 0.5] = 0
    return sparse.csr_array(x), near(rng.uniform(0, 150, (cells, 2)), np.zeros(cells), 40)


def roughness(weights, graph):
    dense = graph.toarray()
    return float(np.trace(weights.T @ (np.diag(dense.sum(axis=1)) - dense) @ weights))


def test_log_rates_have_the_published_values():
    counts = sparse.csr_matrix(np.array([[1, 61], [1, 76], [0, 0]]))
    found = log_rates(counts).toarray()
    assert found[0, 0] == pytest.approx(5.0894, abs=5e-5)
    assert found[1, 0] == pytest.approx(4.8742, abs=5e-5)
    assert (found[2] == 0).all()


def test_factors_are_those_of_nmf_with_programs_of_unit_length():
    x, _ = draw()
    found = factorize(x, 3, seed=0)
    model = NMF(3, init="nndsvda", max_iter=500, random_state=0)
    product = model.fit_transform(x) @ model.components_
    assert found.weights @ found.programs == pytest.approx(product)
    assert np.linalg.norm(found.programs, axis=1) == pytest.approx(np.ones(3))
    assert min(found.weights.min(), found.programs.min()) >= 0
    assert np.abs(product - x.toarray()).mean() < 0.1 * x.toarray().mean()


def test_more_factors_than_genes_are_not_found(caplog):
    with caplog.at_level(logging.WARNING):
        assert factorize(draw()[0], 30, seed=0).programs.shape == (20, 20)
    assert "30 factors requested, but so few cells or genes allow only 20" in caplog.text


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.0, 0.003, 0.1, 3.0, 100.0]), st.integers(2, 5))
def test_the_graph_objective_never_rises(seed, penalty, rank):
    x, graph = draw(seed)
    found = factorize_on_graph(x, graph, penalty, factorize(x, rank, seed))
    objective = np.array(found.objective)
    assert len(objective) > 1
    assert (np.diff(objective) <= 1e-9 * objective[0]).all()
    assert min(found.weights.min(), found.programs.min()) >= 0


@pytest.mark.parametrize("penalty", [0.0, 0.05, 2.0])
def test_the_graph_objective_is_misfit_plus_penalty(penalty):
    x, graph = draw()
    found = factorize_on_graph(x, graph, penalty, factorize(x, 3, seed=0))
    misfit = ((x.toarray() - found.weights @ found.programs) ** 2).sum()
    assert found.objective[-1] == pytest.approx(misfit + penalty * roughness(found.weights, graph))
    assert np.linalg.norm(found.programs, axis=1) == pytest.approx(np.ones(3))


def test_a_penalty_makes_weights_smooth_and_not_merely_small():
    """Differences between neighbours are divided by the weights themselves, so that a smaller scale has no effect."""
    x, graph = draw()
    start = factorize(x, 3, seed=0)
    found = [factorize_on_graph(x, graph, penalty, start).weights for penalty in (0.0, 0.1, 10.0)]
    rough = [roughness(weights, graph) / (weights**2).sum() for weights in found]
    assert rough[0] > 2 * rough[1] > 4 * rough[2]


def test_a_large_penalty_finds_the_factors_of_averages():
    """Cells linked in threes get equal weights, as if each three had been replaced by their mean."""
    x, _ = draw()
    threes = sparse.csr_array(np.kron(np.eye(20), np.ones((3, 3)) - np.eye(3)))
    found = factorize_on_graph(x, threes, 1000, factorize(x, 3, seed=0))
    assert np.abs(found.weights[::3] - found.weights[1::3]).max() < 0.005 * found.weights.mean()
    means = x.toarray().reshape(20, 3, -1).mean(axis=1)
    model = NMF(3, init="nndsvda", max_iter=2000)
    product = model.fit_transform(means) @ model.components_
    assert found.objective[-1] == pytest.approx(((x.toarray() - product.repeat(3, axis=0)) ** 2).sum(), rel=0.01)
