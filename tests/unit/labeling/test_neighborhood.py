"""Neighbours in expression, against plain loops."""

import numpy as np
import pytest
from scipy import sparse

from nuclass_pipeline.labeling.neighborhood import BANDWIDTH_SHARE, NEIGHBORS, Neighborhood


@pytest.fixture(scope="module")
def components():
    return np.random.default_rng(0).normal(size=(300, 4))


def test_neighbors_are_the_nearest_others_weighted_by_a_normal_density(components):
    found = Neighborhood.of_slide(components)
    distance = np.linalg.norm(components[:, None] - components, axis=2)
    np.fill_diagonal(distance, np.inf)
    nearest = np.sort(distance, axis=1)[:, :NEIGHBORS]
    assert found.bandwidth == pytest.approx(BANDWIDTH_SHARE * np.median(nearest))
    np.testing.assert_array_equal(found.rows, np.argsort(distance, axis=1)[:, :NEIGHBORS])
    np.testing.assert_allclose(found.weights, np.exp(-0.5 * (nearest / found.bandwidth) ** 2))


def test_the_average_is_weighted_and_includes_the_cell_itself(components):
    x = np.random.default_rng(1).poisson(2, (300, 5)).astype(float)
    found = Neighborhood.of_slide(components)
    average = found.average(sparse.csr_matrix(x), sparse.csr_matrix(x))
    for cell in (0, 17, 299):
        weights = np.append(1, found.weights[cell])
        rows = np.append(cell, found.rows[cell])
        np.testing.assert_allclose(average[cell], np.average(x[rows], axis=0, weights=weights))


def test_query_cells_have_neighbors_on_the_slide_at_its_bandwidth(components):
    slide = Neighborhood.of_slide(components)
    query = slide.of_query(components[:3], components)
    assert query.bandwidth == slide.bandwidth
    # The nearest neighbour of a copy of a cell is that cell; the next are the cell's own neighbours.
    np.testing.assert_array_equal(query.rows[:, 0], [0, 1, 2])
    np.testing.assert_array_equal(query.rows[:, 1:], slide.rows[:3, :-1])
    np.testing.assert_allclose(query.weights[:, 0], 1)
    np.testing.assert_allclose(query.weights[:, 1:], slide.weights[:3, :-1])


def test_a_rare_cell_is_hardly_averaged_with_a_far_crowd():
    crowd = np.random.default_rng(2).normal(size=(300, 4))
    found = Neighborhood.of_slide(np.vstack([crowd, np.full((3, 4), 30.0) + np.arange(3)[:, None] / 100]))
    assert found.weights[-1, :2].min() > 0.99
    assert found.weights[-1, 2:].max() < 1e-6


@pytest.mark.parametrize(("cells", "neighbors"), [(1, 0), (19, 0), (20, 1), (100, 9), (200, NEIGHBORS), (1000, NEIGHBORS)])
def test_a_neighborhood_is_at_most_a_tenth_of_the_slide(cells, neighbors):
    found = Neighborhood.of_slide(np.random.default_rng(0).normal(size=(cells, 2)))
    assert found.rows.shape == found.weights.shape == (cells, neighbors)
    query = found.of_query(np.zeros((2, 2)), np.zeros((cells, 2)))
    assert query.rows.shape == (2, neighbors)
    assert found.share(np.zeros(found.rows.shape, bool)).tolist() == [float(neighbors == 0)] * cells


def test_where_all_cells_are_alike_all_are_near():
    found = Neighborhood.of_slide(np.zeros((100, 3)))
    assert (found.weights == 1).all()


def test_the_share_of_neighbors_alike_is_weighted():
    found = Neighborhood(np.array([[1, 2], [0, 2]]), np.array([[1.0, 0.5], [0.0, 0.0]]), 1.0)
    assert found.share(np.array([[True, False], [False, True]])).tolist() == [1 / 1.5, 1.0]
