"""The square with most cells, and circles on cells."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from nuclass_pipeline.data.image.pictures import (
    DOT_COLOR,
    KEY_PX,
    PANEL_PX,
    densest_square,
    draw_detail,
    draw_overview,
    fullest_squares,
    mark,
    mark_outlines,
    with_key,
    write_pair,
)
from nuclass_pipeline.data.image.slide import HeImage
from nuclass_pipeline.units import HePixel

POINTS = np.array([[5, 5]] * 3 + [[25, 5]] * 7 + [[12, 33]] * 5, dtype=float)


def marked(picture):
    return (np.asarray(picture) == DOT_COLOR).all(axis=2)


def test_the_fullest_squares_come_first_and_lie_on_the_grid():
    assert fullest_squares(POINTS, 10, 2).tolist() == [[20, 0], [10, 30]]
    assert fullest_squares(POINTS, 10, 9).tolist() == [[20, 0], [10, 30], [0, 0]]
    assert fullest_squares(POINTS - 10, 10, 1).tolist() == [[10, -10]]
    assert fullest_squares(np.array([[15.0, 5], [5, 15]]), 10, 2).tolist() == [[0, 10], [10, 0]]


@pytest.mark.parametrize(
    ("points", "shape", "corner", "side_px"),
    [
        ([[5, 5]] * 3 + [[25, 5]] * 7 + [[12, 33]] * 5 + [[-4, 5]] * 9 + [[200, 5]] * 9, (40, 100), (20, 0), 10),
        ([[5, 5], [37, 98]] * 2 + [[37, 98]], (100, 40), (30, 90), 10),
        ([[43, 7]], (45, 45), (35, 0), 10),
        ([[5, 15], [15, 5]], (40, 40), (10, 0), 10),
        ([], (40, 40), (0, 0), 10),
        ([[3, 3]], (4, 40), (0, 0), 4),
    ],
)
def test_the_densest_square_lies_in_the_image(points, shape, corner, side_px):
    """Also where points lie outside, squares reach over the edge or are equally full, or nothing is there."""
    found, found_px = densest_square(HePixel(np.array(points, dtype=float).reshape(-1, 2)), 5.0, 0.5, shape)
    assert (tuple(found), found_px) == (corner, side_px)


def test_a_circle_on_every_point_within_the_margin():
    points = np.array([[20.0, 20.0], [-2, 50], [-5, 80]])
    picture = Image.new("RGB", (100, 100))
    mark(picture, points, 3)
    assert np.argwhere(marked(picture)).min(axis=0).tolist() == [17, 17]
    assert np.argwhere(marked(picture)).max(axis=0).tolist() == [23, 23]
    mark(picture, points, 3, margin_px=4)
    assert marked(picture)[47:54, :2].any()
    assert not marked(picture)[70:].any()


def test_outlines_that_reach_into_the_picture_are_drawn():
    picture = Image.new("RGB", (100, 100))
    square = np.array([[0, 0], [20, 0], [20, 20], [0, 20], [0, 0]], dtype=np.float32)
    mark_outlines(picture, [square + 90, square + 200])
    assert marked(picture)[90, 90:].all()
    assert not marked(picture)[:88].any()


def test_panels_show_the_cells_in_the_square_and_on_the_whole(tmp_path):
    tifffile.imwrite(tmp_path / "he.tif", np.full((400, 300, 3), 200, np.uint8), photometric="rgb", tile=(256, 256))
    xy_px = HePixel(np.array([[150.0, 220.0], [10, 10]]))
    with HeImage(tmp_path / "he.tif") as he:
        detail = draw_detail(he, xy_px, [], np.array([100, 200]), 100)
        whole = draw_overview(he, xy_px, np.array([100, 200]), 100)
    # The cell lies at half of the square's width and a fifth of its height.
    middle = np.argwhere(marked(detail)).mean(axis=0)
    assert middle == pytest.approx((0.2 * PANEL_PX, 0.5 * PANEL_PX), abs=1)
    assert whole.size == (450, 600)
    assert marked(whole)[330, 225]
    assert marked(whole)[15, 15]
    assert (np.asarray(whole)[300, 150:300] == 0).all()
    write_pair(whole, detail, tmp_path / "pair.png")
    with Image.open(tmp_path / "pair.png") as pair:
        assert pair.size == (1200, 600 + KEY_PX)
        assert marked(pair)[:, 600:].sum() == marked(detail).sum()


@pytest.mark.parametrize(("size", "mpp", "length_um"), [((600, 600), 0.4, 50), ((600, 600), 1.0, 100), ((450, 600), 2.3, 200)])
def test_the_scale_bar_has_the_length_that_it_says(size, mpp, length_um):
    keyed = np.asarray(with_key(Image.new("RGB", size, (200, 0, 0)), mpp, "green circles: cells"))
    assert (keyed[: size[1], : size[0]] == (200, 0, 0)).all()
    assert len(keyed) == size[1] + KEY_PX
    row = (keyed[size[1] + KEY_PX // 2 - 2] == 0).all(axis=1)
    first = int(row.argmax())
    assert int((~row[first:]).argmax()) == round(length_um / mpp)
    # The text ends before the edge.
    assert (keyed[size[1] :, -3:] == 255).all()


@pytest.mark.parametrize("mpp", [2.0, 8.3, 20.0, 33.4, 60.0])
def test_a_long_key_ends_within_its_panel(tmp_path, mpp):
    """Also below a slide of 20 mm, whose scale bar leaves less room."""
    left = with_key(Image.new("RGB", (400, 600)), mpp, "green dots: nuclei; 1,234,567 found; square: right panel")
    write_pair(left, Image.new("RGB", (600, 636)), tmp_path / "pair.png")
    with Image.open(tmp_path / "pair.png") as pair:
        strip = np.asarray(pair)[600:, :600]
    assert (strip[:, -6:] == 255).all()
    # Two thirds of the full size at the least.
    rows = np.flatnonzero((strip[:, 300:] < 128).all(axis=2).any(axis=1))
    assert np.ptp(rows) >= 9
