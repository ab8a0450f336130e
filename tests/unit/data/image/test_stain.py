"""Densities of stains whose truth is known."""

import numpy as np
import pytest

from nuclass_pipeline.data.image.stain import HAEMATOXYLIN, haematoxylin_od, projected_density

EOSIN = np.array([0.07, 0.99, 0.11])
"""Optical density of eosin in red, green and blue (Ruifrok and Johnston 2001)."""


def stained(haematoxylin, eosin):
    """Return a pixel of given densities by the law of Beer and Lambert, (1, 1, 3)."""
    return np.round(255 * 10 ** -(haematoxylin * HAEMATOXYLIN + eosin * EOSIN)).astype(np.uint8).reshape(1, 1, 3)


@pytest.mark.parametrize(("haematoxylin", "eosin"), [(0, 0), (0.5, 0), (0, 0.5), (0.4, 0.3)])
def test_the_projection_does_not_unmix(haematoxylin, eosin):
    found = projected_density(stained(haematoxylin, eosin))
    assert found.shape == (1, 1)
    assert found.dtype == np.float32
    assert found[0, 0] == pytest.approx(1.0 * haematoxylin + 0.77 * eosin, abs=0.01)


@pytest.mark.parametrize("eosin", [0, 0.2, 0.5])
def test_unmixing_takes_the_eosin_out(eosin):
    found = haematoxylin_od(np.concatenate([stained(0.1, eosin), stained(0.5, eosin)]))
    assert found.shape == (2, 1)
    assert found.dtype == np.float32
    assert found[:, 0] == pytest.approx(found_without_eosin(), abs=0.02)


def found_without_eosin():
    return haematoxylin_od(np.concatenate([stained(0.1, 0), stained(0.5, 0)]))[:, 0]


def test_black_and_white_have_finite_densities():
    black_and_white = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    assert projected_density(black_and_white)[0] == pytest.approx((np.log10(256) * HAEMATOXYLIN.sum(), 0), abs=1e-5)
    assert np.isfinite(haematoxylin_od(black_and_white)).all()
