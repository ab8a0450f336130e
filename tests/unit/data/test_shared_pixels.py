import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.image.windows import cut_window
from nuclass_pipeline.data.shared_pixels import ContextWindows

SMALL = ImageConfig(local_um=8, context_um=16)


def pixels(corner_px, side_px):
    left, top = corner_px.astype(int)
    return {(x, y) for x in range(left, left + side_px) for y in range(top, top + side_px)}


def placed(tmp_path, xy_um, matrix, sides_um, config):
    entries = {"matrix": np.array(matrix).tolist(), "xenium_mpp": 0.2125, "residual_um": 0.0, "sides_um": list(sides_um)}
    (tmp_path / "registration.json").write_text(json.dumps(entries))
    return ContextWindows.place(xy_um, tmp_path / "registration.json", config)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), cells=st.integers(2, 12))
def test_sharing_is_that_of_sets_of_pixels(seed, cells):
    rng = np.random.default_rng(seed)
    config = ImageConfig(mpp=0.25, local_um=8, context_um=10)
    windows = ContextWindows.place(rng.integers(0, 160, (cells, 2)) / 4, None, config)
    trained = rng.uniform(size=cells) < 0.5
    sets = [pixels(corner, windows.side_px) for corner in windows.corners_px]
    expected = [any(own & sets[other] for other in np.flatnonzero(trained)) for own, asked in zip(sets, ~trained, strict=True) if asked]
    assert windows.share_pixels(~trained, trained).tolist() == expected


def test_windows_a_side_apart_touch_and_share_nothing():
    xy_um = np.array([[0, 0], [256, 0], [511.75, 100], [0, 256], [-255.75, 255.75]])
    windows = ContextWindows.place(xy_um, None, ImageConfig())
    first = np.arange(5) == 0
    assert windows.share_pixels(~first, first).tolist() == [False, False, False, True]
    second = np.arange(5) == 1
    assert windows.share_pixels(~second, second).tolist() == [False, True, False, False]
    assert windows.width_um == 256


def test_nothing_is_shared_with_no_cell():
    windows = ContextWindows.place(np.zeros((3, 2)), None, ImageConfig())
    assert windows.share_pixels(np.array([True, True, False]), np.zeros(3, bool)).tolist() == [False, False]


def test_corners_are_those_that_windows_are_cut_at():
    rng = np.random.default_rng(0)
    xy_um = np.vstack([rng.uniform(10, 50, (50, 2)), [[10.125, 10.375], [10.625, 11.125]]])
    windows = ContextWindows.place(xy_um, None, SMALL)
    rows, columns = np.mgrid[:250, :250]
    places = np.stack([columns, rows, columns * 0], axis=2).astype(np.uint8)
    for (x, y), corner in zip(xy_um / 0.25, windows.corners_px, strict=True):
        cut, padded = cut_window(places, x, y, windows.side_px, 255)
        assert not padded
        assert tuple(cut[0, 0, :2]) == tuple(corner)


@pytest.mark.parametrize(
    ("rotation_deg", "factor"), [(0, 1), (90, 1), (180, 1), (1.5, 1.025834), (-91.5, 1.025834), (30, 1.366025), (45, 1.414214)]
)
def test_a_turned_window_is_wider_than_its_side(tmp_path, rotation_deg, factor):
    angle = np.deg2rad(rotation_deg)
    scale = 0.2738 / 0.2125
    matrix = [[scale * np.cos(angle), -scale * np.sin(angle), 7], [scale * np.sin(angle), scale * np.cos(angle), 9], [0, 0, 1]]
    windows = placed(tmp_path, np.zeros((1, 2)), matrix, (0.2738, 0.2738), ImageConfig())
    assert windows.width_um == pytest.approx(256 * factor, rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    rotation_deg=st.floats(-180, 180),
    mirrored=st.booleans(),
    aspect=st.sampled_from([1.0, 0.5, 1.02]),
    shear=st.floats(-0.05, 0.05),
)
def test_cells_a_window_apart_along_an_axis_share_no_pixel(tmp_path_factory, seed, rotation_deg, mirrored, aspect, shear):
    rng, angle = np.random.default_rng(seed), np.deg2rad(rotation_deg)
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ [[1, shear], [0, -1 if mirrored else 1]]
    matrix = np.eye(3)
    matrix[:2, :2] = turned @ np.diag([1 / np.sqrt(aspect), np.sqrt(aspect)])
    matrix[:2, 2] = rng.uniform(-100, 100, 2)
    sides = 0.2125 / np.sqrt(aspect), 0.2125 * np.sqrt(aspect)
    first = rng.uniform(0, 10, (300, 2))
    folder = tmp_path_factory.mktemp("slide")
    width_um = placed(folder, first, matrix, sides, SMALL).width_um
    axis = int(rng.integers(2))
    second = rng.uniform(-30, 30, (300, 2))
    second[:, axis] = first[:, axis].max() + width_um + rng.exponential(0.1, 300)
    windows = placed(folder, np.vstack([first, second]), matrix, sides, SMALL)
    trained = np.arange(600) < 300
    assert not windows.share_pixels(~trained, trained).any()
    # No wider than needed: somewhat nearer, some windows do overlap, whatever the map.
    second[:, axis] = first[:, axis] + 0.7 * width_um
    second[:, 1 - axis] = first[:, 1 - axis]
    nearer = placed(folder, np.vstack([first, second]), matrix, sides, SMALL)
    assert nearer.width_um == width_um and nearer.share_pixels(~trained, trained).any()
