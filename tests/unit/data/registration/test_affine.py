import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from nuclass_pipeline.data.registration.affine import MIN_AFFINE_CELLS, fit_affine
from nuclass_pipeline.data.registration.correlation import sharpen
from nuclass_pipeline.units import ImagePixel

SIDE = 600
XY = np.random.default_rng(0).uniform(100, SIDE - 100, (900, 2))
DOTS, *_ = np.histogram2d(XY[:, 1], XY[:, 0], bins=SIDE, range=((0, SIDE), (0, SIDE)))
TEXTURE = sharpen(gaussian_filter(DOTS, 2.5).astype(np.float32))


def moved(linear, shift=(0, 0)):
    middle = XY.mean(axis=0)
    return ImagePixel((XY - middle) @ np.array(linear).T + middle + shift)


@pytest.mark.parametrize("degrees", [0, 0.5, -1, 2])
def test_a_turn_is_measured_and_every_cell_brought_back(degrees):
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    xy = moved([[cos, -sin], [sin, cos]], (2, -1))
    fit = fit_affine(TEXTURE, xy, (-2.0, 1.0))
    assert fit.turn_deg == pytest.approx(-degrees, abs=0.15)
    assert fit.strain < 0.004
    assert np.hypot(*(xy + fit.shifts_px(xy) - XY).T).max() < 1


@pytest.mark.parametrize(("linear", "strain"), [([[1.02, 0], [0, 1]], 0.0196), ([[1, np.tan(np.radians(2))], [0, 1]], 0.0175)])
def test_a_stretch_and_a_shear_are_measured(linear, strain):
    xy = moved(linear)
    fit = fit_affine(TEXTURE, xy, (0.0, 0.0))
    assert fit.strain == pytest.approx(strain, abs=0.004)
    assert np.hypot(*(xy + fit.shifts_px(xy) - XY).T).max() < 1


def test_few_cells_are_not_fitted():
    assert fit_affine(TEXTURE, ImagePixel(XY[: MIN_AFFINE_CELLS - 1]), (0.0, 0.0)) is None
    assert fit_affine(TEXTURE, ImagePixel(XY[:MIN_AFFINE_CELLS]), (0.0, 0.0)) is not None
