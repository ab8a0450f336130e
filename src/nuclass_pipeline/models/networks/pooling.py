"""What a vector takes of a feature map."""

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
