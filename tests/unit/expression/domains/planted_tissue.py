"""A square of tissue with three stripes, in each of which another of three cell types has the majority."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

MAJORITY = (0.6, 0.65, 0.7)
CELLS_PER_UM2 = 0.004


@dataclass(frozen=True)
class Tissue:
    """Raw counts (cells, genes), centroids (cells, 2) in µm, and the planted type and stripe of each cell."""

    counts: sparse.csr_matrix
    xy_um: NDArray[np.float64]
    type: NDArray[np.int64]
    stripe: NDArray[np.int64]


def plant(seed: int = 0, cells: int = 10_240, genes: int = 120, depth: float = 60) -> Tissue:
    """Draw a tissue; each type has a profile of its own, and cells differ in depth."""
    rng = np.random.default_rng(seed)
    side_um = np.sqrt(cells / CELLS_PER_UM2)
    xy_um = rng.uniform(0, side_um, (cells, 2))
    stripe = np.minimum((xy_um[:, 0] / side_um * 3).astype(np.int64), 2)
    other = (stripe + rng.integers(1, 3, cells)) % 3
    kind = np.where(rng.random(cells) < np.array(MAJORITY)[stripe], stripe, other)
    profiles = rng.gamma(2, 1, (3, genes))
    profiles /= profiles.sum(axis=1, keepdims=True)
    depths = depth * rng.lognormal(0, 0.3, (cells, 1))
    parts = [sparse.csr_matrix(rng.poisson(depths[i : i + 20_000] * profiles[kind[i : i + 20_000]])) for i in range(0, cells, 20_000)]
    return Tissue(sparse.csr_matrix(sparse.vstack(parts), dtype=np.float32), xy_um, kind, stripe)
