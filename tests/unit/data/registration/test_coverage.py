import numpy as np
import pytest

from nuclass_pipeline.data.registration.correlation import draw_nuclei, sharpen
from nuclass_pipeline.data.registration.coverage import MAX_TILE_CORRELATION, find_matching

SIDE = 512


def points(count, seed=0):
    return np.random.default_rng(seed).uniform(0, SIDE, (count, 2))


def match(texture_xy, xy, blank=None, correlation=1.0):
    texture = sharpen(draw_nuclei(texture_xy, (SIDE, SIDE)))
    if blank is not None:
        texture[:, blank] = 0
    return find_matching(texture, draw_nuclei(xy, (SIDE, SIDE)), xy, correlation)


@pytest.mark.parametrize("count", [2000, 250, 60])
def test_cells_on_their_own_nuclei_match_whatever_their_density(count):
    matching, share = match(points(count), points(count))
    assert share == 1
    assert matching.mean() > 0.5


def test_cells_on_other_nuclei_do_not():
    _, share = match(points(2000, seed=1), points(2000))
    assert share < 0.1


def test_only_the_cells_on_the_half_that_is_not_blank_match():
    xy = points(2000)
    matching, share = match(xy, xy, slice(0, 256))
    assert matching[xy[:, 0] > 256].all()
    assert not matching[xy[:, 0] < 256].any()
    assert share == pytest.approx((xy[:, 0] > 256).mean())


def test_on_a_pale_slide_half_of_its_correlation_is_enough():
    noise = np.random.default_rng(2).normal(0, 0.045, (SIDE, SIDE)).astype(np.float32)
    xy = points(2000)
    nuclei = draw_nuclei(xy, (SIDE, SIDE))
    texture = sharpen(nuclei) + noise
    correlation = float(np.corrcoef(texture.ravel(), nuclei.ravel())[0, 1])
    assert 0.1 < correlation < MAX_TILE_CORRELATION
    assert find_matching(texture, nuclei, xy, correlation)[1] > 0.9
    assert find_matching(texture, nuclei, xy, 1.0)[1] < 0.5


def test_without_enough_cells_in_any_tile_nothing_is_said():
    matching, share = match(points(8), points(8))
    assert (matching.any(), share) == (False, 1.0)
