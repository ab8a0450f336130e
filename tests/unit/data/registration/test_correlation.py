import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from nuclass_pipeline.data.registration.correlation import (
    MIN_REGION_CELLS,
    RegionFit,
    ShiftFit,
    correlate_regions,
    correlate_shifts,
    sharpen,
)
from nuclass_pipeline.data.registration.fit import RegistrationFit
from nuclass_pipeline.units import ImagePixel

SIDE_UM = 400


def nuclei(count=600, seed=0):
    return np.random.default_rng(seed).uniform(20, SIDE_UM - 20, (count, 2))


def texture(xy_um):
    dots, *_ = np.histogram2d(xy_um[:, 1], xy_um[:, 0], bins=SIDE_UM, range=((0, SIDE_UM), (0, SIDE_UM)))
    return sharpen(gaussian_filter(dots, 2.5).astype(np.float32))


@pytest.mark.parametrize("shift", [(0, 0), (1, 0), (-3, 2), (7.5, -4), (0, 20), (-14, 14)])
def test_a_known_shift_is_recovered_within_a_micron(shift):
    xy = nuclei()
    fit = correlate_shifts(texture(xy), ImagePixel(xy - shift), search_um=30)
    assert fit.shift_um == pytest.approx(shift, abs=1.0)
    assert fit.correlation_best > 0.5
    assert fit.correlation <= fit.correlation_best


def test_unrelated_nuclei_do_not_correlate():
    fit = correlate_shifts(texture(nuclei(seed=1)), ImagePixel(nuclei(seed=2)), search_um=30)
    assert fit.correlation_best < 0.2
    assert not fit.is_clear


def fit(distance_um, best=0.6, chance=0.1):
    return ShiftFit((distance_um * 0.6, distance_um * 0.8), 0.2, best, chance)


def region(distance_um, best=0.6, chance=0.1):
    return RegionFit((0.0, 0.0), (300.0, 300.0), 400, fit(distance_um, best, chance))


def test_the_verdict_compares_the_correlation_with_that_by_chance():
    wholes = {"good": fit(1), "shifted": fit(6), "unclear": fit(1, chance=0.3)}
    assert {name: RegistrationFit(whole, ()).verdict(5) for name, whole in wholes.items()} == {name: name for name in wholes}
    assert RegistrationFit(fit(0, best=0.05, chance=0.01), ()).verdict(5) == "unclear"


@pytest.mark.parametrize(
    ("regions", "verdict"),
    [
        ([region(1)] * 7 + [region(6)] * 2, "shifted"),
        ([region(1)] * 8 + [region(6)] * 2, "good"),
        ([region(1)] * 2 + [region(6)], "good"),
        ([region(1)] * 7 + [region(6, chance=0.4)] * 7, "good"),
        ([region(1, best=0.05)] * 20 + [region(1)] * 3 + [region(6)] * 2, "shifted"),
    ],
)
def test_more_than_a_fifth_of_the_clear_regions_must_be_shifted_and_two_or_more(regions, verdict):
    assert RegistrationFit(fit(1), tuple(regions)).verdict(5) == verdict


@pytest.mark.parametrize(
    ("best", "chance", "confidence"), [(0.5, 0.1, 0.8), (0.5, 0.25, 0.5), (0.1, 0.2, 0), (0.5, -0.1, 1), (0, 0.1, 0), (-0.1, -0.2, 0)]
)
def test_confidence_is_the_share_of_the_correlation_that_is_not_due_to_chance(best, chance, confidence):
    assert fit(1, best, chance).confidence == pytest.approx(confidence)


def test_regions_share_the_cells_and_leave_out_those_with_few():
    rng = np.random.default_rng(3)
    dense, sparse = rng.uniform((0, 0), (600, 600), (2000, 2)), rng.uniform((600, 0), (1200, 600), (100, 2))
    xy = np.concatenate([dense, sparse])
    dots, *_ = np.histogram2d(xy[:, 1], xy[:, 0], bins=(600, 1200), range=((0, 600), (0, 1200)))
    regions = correlate_regions(sharpen(gaussian_filter(dots, 2.5).astype(np.float32)), ImagePixel(xy), 30)
    assert len(regions) == 4
    for found in regions:
        assert found.cells == found.holds(xy).sum() >= MIN_REGION_CELLS
        assert found.high_um[0] <= 601
        assert found.fit.is_clear
        assert found.fit.distance_um < 1
    assert 1990 <= sum(found.cells for found in regions) <= 2000
    assert correlate_regions(texture(nuclei(MIN_REGION_CELLS - 1)), ImagePixel(nuclei(MIN_REGION_CELLS - 1)), 30) == ()
