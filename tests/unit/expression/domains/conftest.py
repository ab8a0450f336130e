"""A planted tissue, and toy cells small enough for dense matrices."""

import numpy as np
import pytest

from tests.unit.expression.domains.planted_tissue import Tissue, plant


@pytest.fixture(scope="session")
def tissue() -> Tissue:
    return plant(0)


@pytest.fixture(scope="session")
def toy() -> tuple[np.ndarray, np.ndarray]:
    """Return centroids in µm, two of them the same and one far from all, and the sections of 60 cells."""
    rng = np.random.default_rng(3)
    xy_um = rng.uniform(0, 200, (60, 2))
    xy_um[1] = xy_um[0]
    xy_um[59] = 5000
    return xy_um, np.r_[np.zeros(40), np.ones(20)]
