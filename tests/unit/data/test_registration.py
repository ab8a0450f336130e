import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuclass_pipeline.data.registration import Alignment, read_alignment
from nuclass_pipeline.errors import UserError
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


def test_skin_matrix_is_turned_by_ninety_degrees_and_80x(real_data):
    path = real_data / "alignments/Xeniumranger_V1_hSkin_Melanoma_Add_on_FFPE_he_imagealignment.csv"
    alignment = read_alignment(path, 0.2125)
    assert alignment.mpp_he == pytest.approx(0.1369, abs=5e-5)
    assert alignment.rotation_deg == pytest.approx(-90, abs=0.2)


def test_knowledge_base_matrix_places_the_corner(real_data):
    alignment = read_alignment(real_data / "alignments/kb10x_Xenium_Prime_Breast_he_imagealignment_from_article.csv", 1.0)
    assert alignment.to_um(HePixel(np.zeros((1, 2))))[0] == pytest.approx((807.98, 73097.66), abs=0.01)


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
        ("1,0\n0,1\n0,0\n", "row 1"),
        ("1,0,0\n0,x,0\n0,0,1\n", "matrix"),
        ("1,0,0\n0,nan,0\n0,0,1\n", "matrix"),
        ("1,2,0\n2,4,0\n0,0,1\n", "singular"),
        ("0,0,0\n0,0,0\n0,0,1\n", "singular"),
        ("1,0,0\n0,1,0\n0,0,2\n", "matrix"),
        ("fixedX,fixedY,alignmentX,alignmentY\n1,2,3,4\n5,6,7,8\n", "keypoints"),
        ("fixedX,fixedY,alignmentX,alignmentY\n0,0,0,0\n1,1,1,1\n2,2,2,2\n", "singular"),
    ],
)
def test_a_map_that_is_none_is_refused_in_one_line(tmp_path, text, field):
    path = write(tmp_path, text)
    with pytest.raises(UserError) as refusal:
        read_alignment(path, 0.2125)
    assert str(path) in str(refusal.value)
    assert field in str(refusal.value)
    assert "\n" not in str(refusal.value)
