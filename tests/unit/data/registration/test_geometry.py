"""Alignments that cannot be right are refused by their numbers, and what looks wrong about them is named."""

import numpy as np
import pytest
import tifffile

from nuclass_pipeline.data.alignment import Alignment
from nuclass_pipeline.data.image.slide import HeImage
from nuclass_pipeline.data.registration.geometry import fraction_inside, likely_mistake, refuse_impossible, square_pixels
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.units import HePixel, Micron

MPP, SIDE_PX = 0.5, 800
SCALE = MPP / 0.2125
MATRIX = np.array([[0, -SCALE, SCALE * SIDE_PX + 4000], [SCALE, 0, 9000], [0, 0, 1]])
SOUND = Alignment(MATRIX, 0.2125)
CELLS = SOUND.to_um(HePixel(np.random.default_rng(0).uniform((20, 20), (780, 500), (300, 2))))


@pytest.fixture(scope="module")
def he(tmp_path_factory):
    """A white H&E of 800 × 800 px."""
    path = tmp_path_factory.mktemp("he") / "he.tif"
    tifffile.imwrite(path, np.full((SIDE_PX, SIDE_PX, 3), 255, np.uint8), photometric="rgb", tile=(256, 256))
    with HeImage(path) as image:
        yield image


def test_a_sound_alignment_passes_and_no_mistake_is_named(he):
    refuse_impossible(he, SOUND, CELLS, 5, he.path)
    assert fraction_inside(SOUND.to_he(CELLS), he.shape) == 1
    assert likely_mistake(he, SOUND, CELLS, 30) == ""


MADE = {
    "the matrix looks inverted": (SOUND.inverse, CELLS),
    "the matrix or the cells mix up µm and pixels": (SOUND, Micron(CELLS / 0.2125)),
    "the cells look as if in mm instead of µm": (SOUND, Micron(CELLS / 1000)),
    "x and y of the cells look exchanged": (SOUND, Micron(CELLS[:, ::-1])),
}


@pytest.mark.parametrize("sign", MADE)
def test_a_mistake_that_puts_the_cells_off_the_image_is_named(he, sign):
    mapping, xy_um = MADE[sign]
    assert likely_mistake(he, mapping, xy_um) == f"; {sign}: without that, 100 % of the cells lie on it"
    with pytest.raises(UserError, match=f"places every cell outside the H&E; {sign}") as refusal:
        refuse_impossible(he, mapping, xy_um, 5, he.path)
    assert (refusal.value.file, refusal.value.field) == (str(he.path), "matrix")


def test_a_matrix_in_micrometers_is_named(he):
    in_um = Alignment(np.diag([0.2125, 0.2125, 1]) @ MATRIX, 0.2125)
    assert "mix up µm and pixels" in likely_mistake(he, in_um, CELLS)


@pytest.mark.parametrize(("worst_um", "refused"), [(5.0, False), (5.1, True), (80.0, True)])
def test_a_keypoint_off_the_others_is_named_with_its_distance(he, worst_um, refused):
    mapping = Alignment(MATRIX, 0.2125, 3.0, worst_um, 4)
    if not refused:
        refuse_impossible(he, mapping, CELLS, 5, he.path)
        return
    with pytest.raises(UserError, match=rf"a pair is {worst_um:.1f} µm off the map, at most 5 are allowed") as refusal:
        refuse_impossible(he, mapping, CELLS, 5, he.path)
    assert refusal.value.field == "keypoints, line 4"
    refuse_impossible(he, mapping, CELLS, worst_um, he.path)


SHEAR = np.array([[1, np.tan(np.radians(6)), 0], [0, 1, 0], [0, 0, 1]])


@pytest.mark.parametrize(("change", "percent"), [(np.diag([1.25, 1, 1]), 25), (np.diag([1, 1.12, 1]), 12), (SHEAR, 11)])
def test_scales_that_differ_by_more_than_a_tenth_are_refused(he, change, percent):
    with pytest.raises(UserError, match=f"the scales of two directions differ by {percent} %: a pixel of the H&E is 0") as refusal:
        refuse_impossible(he, Alignment(MATRIX @ change, 0.2125), CELLS, 5, he.path)
    assert "state both sides in the file (docs/data.md)" in refusal.value.remedy


@pytest.mark.parametrize("factor", [0.92, 1.0, 1.1])
def test_scales_that_differ_by_less_are_not(he, factor):
    refuse_impossible(he, Alignment(MATRIX @ np.diag([factor, 1, 1]), 0.2125), CELLS, 5, he.path)


def oblong(path, claimed):
    """Write a white H&E whose pixels are `claimed` times as high as wide by its own account."""
    metadata = {"axes": "YXS", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25 * claimed}
    tifffile.imwrite(path, np.full((SIDE_PX, SIDE_PX, 3), 255, np.uint8), photometric="rgb", tile=(256, 256), ome=True, metadata=metadata)
    return path


@pytest.mark.parametrize(
    ("claimed", "real", "used"),
    [(2, 2, 2), (0.5, 0.5, 0.5), (2, 2.1, 2), (1.05, 1.05, 1.05), (1.3, 1, 1), (2, 0.5, 1), (1, 1.05, 1), (2, 3, 1), (1, 2, 1)],
)
def test_the_aspect_is_the_claim_where_it_explains_the_alignment(tmp_path, claimed, real, used):
    """`real` is that of the alignment; it stops where neither fits within 10 %."""
    mapping = Alignment(MATRIX @ np.diag([1, real, 1]), 0.2125)
    with HeImage(oblong(tmp_path / "he.ome.tif", claimed)) as opened:
        view, stored = square_pixels(opened, mapping)
        assert stored.aspect == pytest.approx(used)
        xy_um = mapping.to_um(HePixel(np.array([[100.0, 30], [700, 600]])))
        width_um, height_um = stored.sides_um
        assert (width_um * height_um, height_um / width_um) == pytest.approx((mapping.mpp_he**2, used))
        assert stored.squared.to_he(xy_um) * mapping.mpp_he == pytest.approx(stored.to_he(xy_um) * (width_um, height_um))
        assert stored.to_image(xy_um, 0.25) == pytest.approx(stored.squared.to_image(xy_um, 0.25))
        if max(real / used, used / real) <= 1.1:
            refuse_impossible(view, stored.squared, xy_um, 5, opened.path)
            return
        with pytest.raises(UserError, match=r"scales of two directions differ by \d+ %: a pixel of the H&E is 0\.500 × "):
            refuse_impossible(view, stored.squared, xy_um, 5, opened.path)
