"""Graphs and averaging against dense brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse

from nuclass_pipeline.config.expression import DomainsConfig
from nuclass_pipeline.expression.domains.graphs import crowding, diffuse, near, normalize_rows, spatial_graph, transition


def brute(xy_um, sections, radius_um):
    distance = np.linalg.norm(xy_um[:, None] - xy_um[None], axis=2)
    linked = (distance <= radius_um) & (sections[:, None] == sections[None])
    np.fill_diagonal(linked, False)
    return linked.astype(float)


cells = st.integers(2, 12).flatmap(
    lambda n: st.tuples(arrays(np.int64, (n, 2), elements=st.integers(0, 6)), arrays(np.int64, n, elements=st.integers(0, 2)))
)


@given(cells)
def test_cells_within_reach_are_linked_even_at_the_same_place(drawn):
    xy_um, sections = drawn[0].astype(float), drawn[1]
    assert (near(xy_um, sections, 2.0).toarray() == brute(xy_um, sections, 2.0)).all()


def test_cells_with_one_centroid_are_in_contact(toy):
    assert near(*toy, 20)[0, 1] == 1
    assert near(*toy, 20)[0, 0] == 0


def test_the_hybrid_graph_is_the_larger_of_contact_and_radius(toy):
    expected = np.maximum(2.5 * brute(*toy, 20), brute(*toy, 80))
    found = spatial_graph(*toy, DomainsConfig()).toarray()
    assert (found == expected).all()
    assert set(np.unique(found)) == {0, 1, 2.5}


def test_mode_contact_has_contacts_only_as_heavy_as_the_cell_itself(toy):
    assert (spatial_graph(*toy, DomainsConfig(mode="contact")).toarray() == brute(*toy, 20)).all()


def test_sections_are_blocks_that_do_not_depend_on_each_other(toy):
    xy_um, sections = toy
    whole = spatial_graph(xy_um, sections, DomainsConfig())
    alone = [spatial_graph(xy_um[sections == name], sections[sections == name], DomainsConfig()) for name in (0, 1)]
    assert (whole.toarray() == sparse.block_diag(alone).toarray()).all()
    assert whole.nnz < spatial_graph(xy_um, np.zeros(60), DomainsConfig()).nnz


def test_rows_sum_to_one_and_empty_rows_stay_empty(toy):
    graph = spatial_graph(*toy, DomainsConfig())
    assert graph.sum(axis=1)[59] == 0
    assert normalize_rows(graph).sum(axis=1) == pytest.approx(np.r_[np.ones(59), 0])


def test_the_averaging_matrix_is_stochastic(toy):
    graph = spatial_graph(*toy, DomainsConfig())
    found, looped = transition(graph).toarray(), graph.toarray() + np.eye(60)
    assert found.sum(axis=1) == pytest.approx(np.ones(60), abs=1e-12)
    assert found == pytest.approx(looped / looped.sum(axis=1, keepdims=True))
    assert found.min() >= 0
    assert found[59, 59] == 1


@pytest.mark.parametrize(("beta", "steps"), [(0.6, 2), (0.6, 1), (0.3, 5), (1.0, 1), (0.6, 0)])
def test_diffusion_is_a_power_of_one_matrix(toy, beta, steps):
    graph = spatial_graph(*toy, DomainsConfig())
    weights = np.random.default_rng(0).exponential(size=(60, 4))
    looped = graph.toarray() + np.eye(60)
    step = (1 - beta) * np.eye(60) + beta * looped / looped.sum(axis=1, keepdims=True)
    found = diffuse(weights, graph, beta, steps)
    assert found == pytest.approx(np.linalg.matrix_power(step, steps) @ weights)
    assert found.min() >= 0
    assert found[59] == pytest.approx(weights[59])


def test_diffusion_keeps_constants_and_clips_what_is_negative(toy):
    graph = spatial_graph(*toy, DomainsConfig())
    assert diffuse(np.full((60, 2), 3.0), graph, 0.6, 2) == pytest.approx(np.full((60, 2), 3.0))
    assert (diffuse(np.full((60, 2), -1.0), graph, 0.6, 2) == 0).all()


def test_crowding_is_the_mean_number_of_neighbors(toy):
    assert crowding(*toy, 80) == pytest.approx(brute(*toy, 80).sum() / 60)
