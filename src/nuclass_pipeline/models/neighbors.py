"""The gate of kind `neighbors`: the weight of the global path in the mixture with its mean prediction over the cells around."""

from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.spatial import KDTree
from torch import Tensor, nn

from nuclass_pipeline.arrays import Floats, Integers
from nuclass_pipeline.models.layers import Standardization
from nuclass_pipeline.models.mixture import mix, path_confidence
from nuclass_pipeline.models.temperature import MIN_PROBABILITY

NEIGHBOR_STATISTICS = 8
PRIOR_WEIGHT = 0.05
"""Weight of the mean prediction beside those of the neighbours, so that a cell without neighbours has a mean too."""
REACH = 3.0
"""Neighbours farther away than this many σ have no weight; theirs would be below 0.011."""
BLOCK_CELLS = 4096
"""Cells whose neighbours are found at once, because all pairs of a large slide take gigabytes."""


class Places(NamedTuple):
    """Where N cells are.

    Attributes
    ----------
    xy_um
        (N, 2) centroids, µm.
    image
        (N,) number of the image of each cell; cells of two images are not neighbours.
    """

    xy_um: Floats
    image: Integers


def neighbor_mean(places: Places, p: Floats, prior: Floats, sigma_um: float) -> Floats:
    """Return the mean probabilities of the cells around each cell, weighted by distance.

    `n_i = (Σ_j w_ij p_j + 0.05 p̄) / (Σ_j w_ij + 0.05)`, `w_ij = exp(−d_ij² / 2σ²)`, over j ≠ i within 3σ in the same image.

    Parameters
    ----------
    places
        Where the N cells are.
    p
        (N, C) probabilities.
    prior
        (C,) mean prediction p̄.
    sigma_um
        σ, µm.

    Returns
    -------
    Floats
        (N, C) means, which sum to 1 for each cell.
    """
    # The image as a third coordinate, so far apart that no reach joins two of them.
    points = np.column_stack([places.xy_um, places.image * (10 * REACH * sigma_um)])
    tree, means = KDTree(points), np.empty(p.shape)
    for start in range(0, len(points), BLOCK_CELLS):
        block = points[start : start + BLOCK_CELLS]
        pairs = KDTree(block).sparse_distance_matrix(tree, REACH * sigma_um, output_type="ndarray")
        pairs = pairs[pairs["i"] + start != pairs["j"]]
        weight = np.exp(-((pairs["v"] / sigma_um) ** 2) / 2)
        weights = csr_array((weight, (pairs["i"], pairs["j"])), shape=(len(block), len(points)))
        total = weights.sum(axis=1)[:, None] + PRIOR_WEIGHT
        means[start : start + len(block)] = (weights @ p + PRIOR_WEIGHT * prior) / total
    return means


def neighbor_statistics(global_p: Tensor, neighbor_p: Tensor) -> Tensor:
    """Return the statistics (B, 8) of the probabilities (B, C) of the cells and of their neighbours.

    They are maximum, entropy / ln C and margin of both, whether both have one class on top, and the L1 distance of both.
    """
    agree = (global_p.argmax(-1) == neighbor_p.argmax(-1)).to(global_p.dtype)
    distance = (global_p - neighbor_p).abs().sum(-1)
    return torch.cat([path_confidence(global_p), path_confidence(neighbor_p), torch.stack([agree, distance], -1)], -1)


class NeighborGate(nn.Module):
    """A logistic regression on eight statistics; σ of its output is the weight g of the global path.

    `p = g · p_global + (1 − g) · n`, with calibrated p_global, and n from `neighbor_mean`. Nine parameters are fitted, because more
    of them fit one split of a few thousand cells, and not the next.

    Parameters
    ----------
    classes
        Number of classes C.
    sigma_um
        σ of the weight by distance, µm.
    """

    temperature: Tensor
    prior: Tensor

    def __init__(self, classes: int, sigma_um: float) -> None:
        super().__init__()
        self.sigma_um = sigma_um
        self.standardize = Standardization(NEIGHBOR_STATISTICS)
        self.weigh = nn.Linear(NEIGHBOR_STATISTICS, 1)
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("prior", torch.full((classes,), 1 / classes))

    def forward(self, global_p: Tensor, neighbor_p: Tensor) -> Tensor:
        """Return the logit (B,) of g, from calibrated probabilities (B, C) of cells and means of their neighbours (B, C)."""
        logit: Tensor = self.weigh(self.standardize(neighbor_statistics(global_p, neighbor_p)))
        return logit.squeeze(-1)

    def calibrate(self, p: Tensor) -> Tensor:
        """Return probabilities (B, C) at the gate's temperature."""
        return (p.clamp(min=MIN_PROBABILITY).log() / self.temperature).softmax(-1)

    def around(self, calibrated: Tensor, places: Places) -> Tensor:
        """Return the mean calibrated probabilities (N, C) of the cells around each of N cells."""
        means = neighbor_mean(places, calibrated.double().numpy(), self.prior.double().numpy(), self.sigma_um)
        return torch.from_numpy(means).to(calibrated.dtype)

    def fuse(self, global_p: Tensor, places: Places) -> tuple[Tensor, Tensor]:
        """Return g (N,) and the mixture (N, C) of all N cells of a slide, from the probabilities (N, C) of its global path."""
        calibrated = self.calibrate(global_p)
        around = self.around(calibrated, places)
        g = torch.sigmoid(self(calibrated, around))
        return g, mix(g, around, calibrated)
