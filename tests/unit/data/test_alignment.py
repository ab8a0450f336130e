import colorsys
import json

import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.alignment import Alignment, read_alignment
from nuclass_pipeline.data.image.patches import extract_patches
from nuclass_pipeline.data.image.pyramid import build_image
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import open_patches, write_json, write_table
from nuclass_pipeline.schemas import CELLS, LABELS
from nuclass_pipeline.units import HePixel, Micron

BREAST = "0.00988824121,1.28956723,-1108.08655\n-1.28956723,0.00988824121,26722.4245\n0,0,1\n"


def write(tmp_path, text, name="he_imagealignment.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_pixel_size_of_a_public_matrix_is_multiplied_not_divided(tmp_path):
    alignment = read_alignment(write(tmp_path, BREAST), 0.2125)
    assert alignment.mpp_he == pytest.approx(0.274041, abs=5e-7)
    assert alignment.rotation_deg == pytest.approx(-89.5607, abs=1e-3)
    assert not alignment.reflected


SKIN = "alignments/Xeniumranger_V1_hSkin_Melanoma_Add_on_FFPE_he_imagealignment.csv"
ARTICLE = "alignments/kb10x_Xenium_Prime_Breast_he_imagealignment_from_article.csv"


def test_skin_matrix_is_turned_by_ninety_degrees_and_80x(real_data):
    alignment = read_alignment(real_data / SKIN, 0.2125)
    assert alignment.mpp_he == pytest.approx(0.1369, abs=5e-5)
    assert alignment.rotation_deg == pytest.approx(-90, abs=0.2)


def test_knowledge_base_matrix_places_the_corner(real_data):
    alignment = read_alignment(real_data / ARTICLE, 1.0)
    assert alignment.to_um(HePixel(np.zeros((1, 2))))[0] == pytest.approx((807.98, 73097.66), abs=0.01)


@pytest.mark.parametrize("name", [SKIN, ARTICLE])
def test_a_real_alignment_and_its_inverse_bring_every_pixel_back(real_data, name):
    alignment = read_alignment(real_data / name, 0.2125)
    x, y = np.meshgrid(np.linspace(-1000, 100_000, 41), np.linspace(-1000, 100_000, 41))
    grid = np.column_stack([x.ravel(), y.ravel()])
    there = alignment.to_um(HePixel(grid))
    assert np.abs(alignment.to_he(there) - grid).max() < 1e-6
    by_hand = 0.2125 * (np.column_stack([grid, np.ones(len(grid))]) @ np.loadtxt(real_data / name, delimiter=",").T)[:, :2]
    assert there == pytest.approx(by_hand)


def test_no_file_means_the_image_is_in_xenium_pixels():
    alignment = read_alignment(None, 0.2125)
    assert alignment.mpp_he == 0.2125
    assert alignment.to_he(Micron(np.array([[21.25, 42.5]])))[0] == pytest.approx((100, 200))


@given(angle=st.floats(-3.1, 3.1), scale=st.floats(0.1, 10), mirror=st.booleans(), x=st.floats(-1e5, 1e5), y=st.floats(-1e5, 1e5))
def test_round_trip(angle, scale, mirror, x, y):
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag([1, -1 if mirror else 1])
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = turn, (x, y)
    alignment = Alignment(matrix, 0.2125)
    points = HePixel(np.array([[0.0, 0.0], [1000.0, -2000.0], [40000.0, 30000.0]]))
    assert alignment.mpp_he == pytest.approx(0.2125 * scale)
    assert alignment.reflected == mirror
    assert alignment.to_he(alignment.to_um(points)) == pytest.approx(points, abs=1e-5)


def test_keypoints_are_fitted_by_least_squares_over_all_points(tmp_path):
    rng = np.random.default_rng(0)
    moving = rng.uniform(0, 20000, (12, 2))
    matrix = np.array([[0.3, -1.2, 500.0], [1.2, 0.3, -80.0], [0, 0, 1]])
    fixed = moving @ matrix[:2, :2].T + matrix[:2, 2]
    noisy = fixed + rng.normal(0, 2, fixed.shape)
    rows = "\n".join(",".join(map(str, (*f, *m))) for f, m in zip(noisy, moving, strict=True))
    alignment = read_alignment(write(tmp_path, f"fixedX,fixedY,alignmentX,alignmentY\n{rows}\n"), 0.2125)
    assert alignment.matrix == pytest.approx(matrix, abs=4)
    assert 0.2125 * 1.5 < alignment.residual_um < 0.2125 * 4


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("1,0,0\n0,1,0\n", "matrix"),
        ("1,0\n0,1\n0,0\n", "line 1"),
        ("1,0,0\n0,x,0\n0,0,1\n", "line 2"),
        ("1,0,0\n0,nan,0\n0,0,1\n", "line 2"),
        ("1,2,0\n2,4,0\n0,0,1\n", "singular"),
        ("0,0,0\n0,0,0\n0,0,1\n", "singular"),
        ("1,0,0\n0,1,0\n0,0,2\n", "matrix"),
        ("fixedX,fixedY,alignmentX,alignmentY\n1,2,3,4\n5,6,7,8\n", "keypoints"),
        ("fixedX,fixedY,alignmentX,alignmentY\n0,0,0,0\n1,1,1,1\n2,2,2,2\n", "singular"),
    ],
)
def test_a_broken_map_is_refused_in_one_line(tmp_path, text, field):
    path = write(tmp_path, text)
    with pytest.raises(UserError) as refusal:
        read_alignment(path, 0.2125)
    assert str(path) in str(refusal.value)
    assert field in str(refusal.value)
    assert "\n" not in str(refusal.value)


GRID = np.array([(x, y) for x in (0.0, 9000.0, 20_000.0) for y in (0.0, 6000.0, 12_000.0)])


@pytest.mark.parametrize("wrong", range(len(GRID)))
def test_the_keypoint_that_contradicts_the_others_is_named(tmp_path, wrong):
    fixed = GRID @ np.array([[0.3, 1.2], [-1.2, 0.3]]) + (500, -80)
    fixed[wrong] += (0, 200)
    rows = "\n".join(",".join(map(str, row)) for row in np.column_stack([fixed, GRID]))
    alignment = read_alignment(write(tmp_path, f"fixedX,fixedY,alignmentX,alignmentY\n{rows}\n"), 0.2125)
    assert alignment.worst_line == wrong + 2
    assert 10 < alignment.worst_um < 200 * 0.2125


def test_keypoints_that_agree_have_no_distance(tmp_path):
    rows = "\n".join(",".join(map(str, row)) for row in np.column_stack([2 * GRID + 7, GRID]))
    alignment = read_alignment(write(tmp_path, f"fixedX,fixedY,alignmentX,alignmentY\n{rows}\n"), 0.2125)
    assert alignment.worst_um == pytest.approx(0, abs=1e-6)


def test_scales_of_the_axes_and_of_any_two_directions():
    stretched, sheared = np.diag([1.25, 1.0, 1.0]), np.array([[1, np.tan(np.radians(6)), 0], [0, 1, 0], [0, 0, 1]])
    assert Alignment(stretched, 0.2).axes_mpp == pytest.approx((0.25, 0.2))
    assert Alignment(stretched, 0.2).stretch == pytest.approx(1.25)
    assert Alignment(sheared, 0.2).stretch == pytest.approx(1.111, abs=1e-3)
    assert Alignment(stretched, 0.2).inverse.matrix == pytest.approx(np.diag([0.8, 1, 1]))


def test_a_matrix_whose_inverse_gives_the_pixel_size_of_a_microscope_looks_inverted(tmp_path):
    with pytest.raises(UserError, match=r"0\.0085 µm wide; it looks inverted, since its inverse makes it 5\.31 µm"):
        read_alignment(write(tmp_path, "0.04,0,0\n0,0.04,0\n0,0,1\n"), 0.2125)


HE_MPP, HE_SIDE_UM = 0.4, 400
DISC_UM = 4.0


@pytest.fixture
def discs(tmp_path):
    """An H&E turned by 30° and mirrored against the cells, with a disc of its own colour on each of 24: colours, patches, annotations."""
    scale, angle = HE_MPP / 0.2125, np.deg2rad(30)
    matrix = np.eye(3)
    matrix[:2, :2] = scale * np.array([[np.cos(angle), np.sin(angle)], [np.sin(angle), -np.cos(angle)]])
    matrix[:2, 2] = (300, 2500)
    x, y = np.meshgrid(np.arange(60, 361, 60), np.arange(60, 301, 80))
    rng = np.random.default_rng(4)
    he_um = np.column_stack([x.ravel(), y.ravel()]) + rng.uniform(-8, 8, (x.size, 2))
    colors = np.array([colorsys.hsv_to_rgb(hue, 0.9, 0.9) for hue in rng.permutation(x.size) / x.size]) * 255
    side = round(HE_SIDE_UM / HE_MPP)
    pixels = np.full((side, side, 3), 235, dtype=np.uint8)
    # A disc by its pixels' middles, so that nothing of the package places it.
    rows, columns = (np.mgrid[:side, :side] + 0.5) * HE_MPP
    for (x_um, y_um), color in zip(he_um, colors, strict=True):
        pixels[np.hypot(columns - x_um, rows - y_um) < DISC_UM] = color.round()
    tifffile.imwrite(tmp_path / "he.tif", pixels, photometric="rgb", tile=(256, 256))
    np.savetxt(tmp_path / "alignment.csv", matrix, delimiter=",")
    xy_um = 0.2125 * (he_um / HE_MPP @ matrix[:2, :2].T + matrix[:2, 2])
    ids = [f"c{number:02d}" for number in range(len(he_um))]
    frame = pd.DataFrame({"cell_id": ids, "x_um": xy_um[:, 0], "y_um": xy_um[:, 1], "transcripts": 9, "controls": 0})
    write_table(frame.assign(cell_area_um2=80.0, nucleus_area_um2=30.0, nucleus_transcripts=3.0), tmp_path / "cells.parquet", CELLS)
    empty = {column.name: np.nan if column.kind == "number" else None for column in LABELS.columns}
    labels = pd.DataFrame({**empty, "cell_id": ids, "label": "T_Cell", "confidence": 0.9}, index=range(len(ids)))
    write_table(labels, tmp_path / "labels.parquet", LABELS)
    return tmp_path, ids, colors, he_um


def cut(folder):
    alignment = read_alignment(folder / "alignment.csv", 0.2125)
    assert alignment.reflected
    assert alignment.rotation_deg == pytest.approx(30)
    write_json({"matrix": alignment.matrix.tolist(), "xenium_mpp": 0.2125, "residual_um": 0.0}, folder / "registration.json")
    inputs = {"image": folder / "image.h5", "registration": folder / "registration.json"}
    build_image(he=folder / "he.tif", registration=inputs["registration"], config=ImageConfig(), image=inputs["image"])
    tables = {name: folder / f"{name}.parquet" for name in ("cells", "labels")}
    outputs = {"local": folder / "local.h5", "context": folder / "context.h5", "annotations": folder / "annotations.json"}
    extract_patches(slide="s", organ="lung", config=ImageConfig(), **inputs, **tables, **outputs)


def test_a_patch_through_a_turned_and_mirrored_alignment_shows_its_own_nucleus(discs):
    folder, ids, colors, he_um = discs
    cut(folder)
    annotations = json.loads((folder / "annotations.json").read_text())
    with open_patches(folder / "local.h5", 224) as file:
        images = dict(zip(file["keys"].asstr()[:], file["images"][:], strict=True))
    assert set(images) == set(ids)
    rows, columns = np.mgrid[:224, :224] - 111.5
    distance_um = np.hypot(rows, columns) * 0.25
    for cell, color, place_um in zip(ids, colors, he_um, strict=True):
        difference = np.abs(images[cell].astype(int) - color.round()).max(axis=2)
        assert difference[distance_um < DISC_UM - 1].max() <= 2
        # The centre of the coloured area is that of the patch.
        found = difference < 60
        assert (rows[found].mean() * 0.25, columns[found].mean() * 0.25) == pytest.approx((0, 0), abs=0.25)
        assert (annotations[cell]["centroid_x"], annotations[cell]["centroid_y"]) == pytest.approx(place_um / 0.25)
