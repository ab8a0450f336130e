"""Graphs that Leiden partitions, and the partition."""

import igraph as ig
import leidenalg
import numpy as np
import pytest
from scipy import sparse

from nuclass_pipeline.config.expression import DomainsConfig
from nuclass_pipeline.expression.domains.graphs import spatial_graph
from nuclass_pipeline.expression.domains.partition import blend_graphs, feature_graph
from nuclass_pipeline.expression.partitions import leiden


@pytest.fixture(scope="module")
def blobs():
    """Return two separate clouds of 50 and 30 cells in the space of weights."""
    rng = np.random.default_rng(0)
    return np.vstack([rng.normal(10, 1, (30, 3)), rng.normal(0, 1, (50, 3))]).clip(0)


def unit_rows(dense):
    return dense / np.maximum(dense.sum(axis=1, keepdims=True), 1e-12)


def test_similar_cells_are_linked_both_ways(blobs):
    graph = feature_graph(blobs, 15, seed=0)
    assert graph.dtype == np.float64
    assert abs(graph - graph.T).max() < 1e-6
    assert graph[:30, 30:].nnz == 0
    assert (graph.sum(axis=1) > 0).all()


def test_the_blend_is_symmetric_and_as_defined(toy):
    rng = np.random.default_rng(0)
    spatial = spatial_graph(*toy, DomainsConfig())
    feature = np.triu(rng.random((60, 60)) * (rng.random((60, 60)) < 0.2), 1)
    feature += feature.T
    found = blend_graphs(spatial, sparse.csr_array(feature), 0.3).toarray()
    blend = unit_rows(0.3 * unit_rows(spatial.toarray()) + 0.7 * unit_rows(feature))
    assert not np.allclose(blend, blend.T)
    assert found == pytest.approx(blend + blend.T)
    assert (found == found.T).all()
    assert found[59].sum() > 0, "a cell far from all others is linked by its likeness"


@pytest.mark.parametrize(("alpha", "chosen"), [(0.0, 1), (1.0, 0)])
def test_the_blend_is_one_of_the_graphs_at_either_end(toy, alpha, chosen):
    graphs = [spatial_graph(*toy, DomainsConfig()), spatial_graph(*toy, DomainsConfig(mode="contact"))]
    alone = unit_rows(graphs[chosen].toarray())
    assert blend_graphs(graphs[0], graphs[1], alpha).toarray() == pytest.approx(alone + alone.T)


def test_groups_are_found_named_by_size_and_repeatable(blobs):
    graph = feature_graph(blobs, 15, seed=0)
    found = leiden(graph, 0.1, seed=0)
    assert found.tolist() == [1] * 30 + [0] * 50
    fine = leiden(graph, 2.0, seed=0)
    sizes = np.bincount(fine)
    assert len(sizes) > 2
    assert (np.diff(sizes) <= 0).all()
    assert (leiden(graph, 2.0, seed=0) == fine).all()


def test_the_partition_is_as_good_by_the_quality_of_leidenalg(toy):
    xy_um, sections = toy
    graph = spatial_graph(xy_um, sections, DomainsConfig())
    upper = sparse.coo_array(sparse.triu(graph, k=1))
    net = ig.Graph(60, np.column_stack([upper.row, upper.col]).tolist())
    kind, how = leidenalg.RBConfigurationVertexPartition, {"weights": upper.data.tolist(), "resolution_parameter": 0.7}
    best = max(leidenalg.find_partition(net, kind, seed=seed, n_iterations=-1, **how).quality() for seed in range(5))
    ours = kind(net, initial_membership=leiden(graph, 0.7, seed=0).tolist(), **how).quality()
    assert ours >= 0.98 * best
    assert ours > 1.2 * kind(net, initial_membership=[0] * 60, **how).quality()
