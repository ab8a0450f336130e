"""The mean prediction of the cells around, and the gate of kind `neighbors`."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nuclass_pipeline.models import neighbors
from nuclass_pipeline.models.neighbors import NeighborGate, Places, neighbor_mean, neighbor_statistics

PRIOR = np.array([0.5, 0.3, 0.2])


def make_cells(count: int, seed: int, images: int = 2) -> tuple[Places, np.ndarray]:
    rng = np.random.default_rng(seed)
    places = Places(rng.uniform(0, 150, (count, 2)), rng.integers(images, size=count))
    return places, rng.dirichlet(np.ones(3), count)


def by_hand(places: Places, p: np.ndarray, sigma_um: float) -> np.ndarray:
    means = []
    for cell in range(len(p)):
        total, weights = 0.05 * PRIOR, 0.05
        for other in range(len(p)):
            distance = np.hypot(*(places.xy_um[cell] - places.xy_um[other]))
            if other != cell and places.image[cell] == places.image[other] and distance <= 3 * sigma_um:
                weight = np.exp(-(distance**2) / (2 * sigma_um**2))
                total, weights = total + weight * p[other], weights + weight
        means.append(total / weights)
    return np.array(means)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(0, 1000), st.sampled_from([0.5, 20.0, 400.0]))
def test_the_mean_is_that_of_every_pair(count: int, seed: int, sigma_um: float) -> None:
    places, p = make_cells(count, seed)
    found = neighbor_mean(places, p, PRIOR, sigma_um)
    np.testing.assert_allclose(found, by_hand(places, p, sigma_um), atol=1e-12)
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_blocks_of_cells_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    places, p = make_cells(300, 3)
    whole = neighbor_mean(places, p, PRIOR, 20.0)
    monkeypatch.setattr(neighbors, "BLOCK_CELLS", 7)
    np.testing.assert_allclose(neighbor_mean(places, p, PRIOR, 20.0), whole, atol=1e-12)


def test_a_cell_alone_gets_the_prior_and_cells_at_one_place_are_neighbors() -> None:
    places = Places(np.array([[0.0, 0.0], [0.0, 0.0], [500.0, 0.0], [0.0, 0.0]]), np.array([0, 0, 0, 1]))
    found = neighbor_mean(places, np.eye(4, 3), PRIOR, 20.0)
    np.testing.assert_allclose(found[2:], [PRIOR, PRIOR])
    np.testing.assert_allclose(found[0], (np.eye(3)[1] + 0.05 * PRIOR) / 1.05)


def test_golden_statistics() -> None:
    p, around = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3]]), torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]])
    expected = torch.tensor([[0.7, 0.729847, 0.5, 0.6, 0.817345, 0.3, 1, 0.2], [0.5, 0.937231, 0.2, 0.7, 0.729847, 0.5, 0, 0.8]])
    torch.testing.assert_close(neighbor_statistics(p, around), expected, rtol=0, atol=6e-7)


def test_the_gate_mixes_the_calibrated_path_with_its_neighbors() -> None:
    torch.manual_seed(0)
    gate = NeighborGate(3, 20.0).eval()
    gate.temperature.fill_(2.0)
    places, p = make_cells(50, 5)
    with torch.inference_mode():
        g, mixed = gate.fuse(torch.from_numpy(p).float(), places)
    calibrated = np.sqrt(p) / np.sqrt(p).sum(axis=1, keepdims=True)
    # The prior of a new gate is even.
    around = neighbor_mean(places, calibrated, np.full(3, 1 / 3), 20.0)
    weight = g.numpy()[:, None]
    assert weight.std() > 0.001
    np.testing.assert_allclose(mixed, weight * calibrated + (1 - weight) * around, atol=1e-5)
    np.testing.assert_allclose(mixed.sum(1), 1, atol=1e-5)
