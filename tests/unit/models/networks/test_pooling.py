"""Vectors of windows that are pooled from the map of a tile."""

import numpy as np
import pytest
import torch

from nuclass_pipeline.models.networks.pooling import pool_map, pool_windows

STEP_PX, SIDE_PX = 4, 32


@pytest.fixture
def grid():
    return torch.randn(5, 20, 24, generator=torch.Generator().manual_seed(0))


def test_a_window_of_whole_cells_has_the_vector_of_its_part_of_the_map(grid):
    corners = [(0, 0), (3, 7), (16, 12)]
    centers = torch.tensor([[x * STEP_PX + SIDE_PX / 2, y * STEP_PX + SIDE_PX / 2] for x, y in corners])
    found = pool_windows(grid, "mean+centre", centers, SIDE_PX, STEP_PX)
    for number, (x, y) in enumerate(corners):
        for part, wanted in zip(found, pool_map(grid[None, :, y : y + 8, x : x + 8], "mean+centre"), strict=True):
            torch.testing.assert_close(part[number], wanted[0])


def test_a_window_across_cells_has_the_mean_of_its_pixels(grid):
    pixels = grid.numpy().repeat(STEP_PX, axis=1).repeat(STEP_PX, axis=2)
    corners = np.random.default_rng(0).integers(0, (24 * STEP_PX - SIDE_PX, 20 * STEP_PX - SIDE_PX), (40, 2))
    (mean,) = pool_windows(grid, "mean", torch.from_numpy(corners + SIDE_PX / 2).float(), SIDE_PX, STEP_PX)
    for (x, y), vector in zip(corners, mean.numpy(), strict=True):
        np.testing.assert_allclose(vector, pixels[:, y : y + SIDE_PX, x : x + SIDE_PX].mean((1, 2)), atol=1e-5)


def test_a_tile_has_no_class_token_of_a_window(grid):
    with pytest.raises(ValueError, match=r"the class token, which pool cls\+mean takes, is that of a whole tile"):
        pool_windows(grid, "cls+mean", torch.zeros(1, 2), SIDE_PX, STEP_PX)
