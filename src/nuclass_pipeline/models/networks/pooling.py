"""What a vector takes of a feature map: of the whole map, or of the windows of several cells in the map of a tile."""

import torch
from torch import Tensor

from nuclass_pipeline.config.backbones.registry import Pool

# About the radius of a nucleus: a tenth of a crop of 56 µm.
_CENTER_WIDTH = 0.1


def pool_map(grid: Tensor, pool: Pool, token: Tensor | None = None) -> list[Tensor]:
    """Return the parts (B, channels) of a vector that are taken of a map.

    The centre is a mean under a Gaussian window with a σ of a tenth of the side: a few thousand cells are too few to find out that the
    cell in the middle is the one to classify.

    Parameters
    ----------
    grid
        Map (B, channels, h, w).
    pool
        What is taken.
    token
        Class token (B, channels), if the network has one.

    Raises
    ------
    ValueError
        If the class token is to be taken and there is none.
    """
    if token is None and pool in ("cls", "cls+mean"):
        raise ValueError(f"it has no class token, which pool {pool} takes")
    parts: list[Tensor] = [] if token is None or "cls" not in pool else [token]
    if "mean" in pool:
        parts.append(grid.mean((2, 3)))
    if "centre" in pool:
        parts.append((grid * _center_window(grid)).sum((2, 3)))
    return parts


def _center_window(grid: Tensor) -> Tensor:
    ys, xs = ((torch.arange(side, device=grid.device) + 0.5) / side - 0.5 for side in grid.shape[2:])
    window = torch.exp(-(ys[:, None] ** 2 + xs[None] ** 2) / (2 * _CENTER_WIDTH**2))
    return window / window.sum()


def pool_windows(grid: Tensor, pool: Pool, centers_px: Tensor, side_px: float, step_px: float) -> list[Tensor]:
    """Return the parts (N, channels) of the vectors of N windows within the map of one tile.

    A window takes the cells of the map by the share that it covers. Where it begins and ends at cells of the map, the parts are those
    that `pool_map` takes of its own part of the map.

    Parameters
    ----------
    grid
        Map (channels, h, w) of the tile.
    pool
        What is taken: the mean, or the mean and the centre.
    centers_px
        Centres (N, 2) of the windows as x, y, px from the left upper corner of the tile.
    side_px
        Side of the windows, px.
    step_px
        Side of a cell of the map, px.

    Raises
    ------
    ValueError
        If the class token is to be taken, which belongs to the whole tile.
    """
    if "cls" in pool:
        raise ValueError(f"the class token, which pool {pool} takes, is that of a whole tile")
    # Both windows are products of one factor for each axis, so that a tile takes two small products of matrices.
    factors = [_axis_weights(centers_px[:, axis], side_px, step_px, grid.shape[2 - axis]) for axis in (1, 0)]
    parts = [torch.einsum("ny,cyx,nx->nc", ys, grid, xs) for ys, xs in zip(*factors, strict=True)]
    return parts if "centre" in pool else parts[:1]


def _axis_weights(centers_px: Tensor, side_px: float, step_px: float, cells: int) -> tuple[Tensor, Tensor]:
    """Return the weights (N, cells) of the mean and of the centre along one axis; each row sums to 1."""
    low = torch.arange(cells, device=centers_px.device, dtype=centers_px.dtype) * step_px
    start, end = centers_px[:, None] - side_px / 2, centers_px[:, None] + side_px / 2
    covered = (torch.minimum(low + step_px, end) - torch.maximum(low, start)).clamp(min=0)
    offset = (low + step_px / 2 - centers_px[:, None]) / side_px
    center = covered * torch.exp(-(offset**2) / (2 * _CENTER_WIDTH**2))
    return covered / covered.sum(1, keepdim=True), center / center.sum(1, keepdim=True)
