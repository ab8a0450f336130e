import json
import re

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
from PIL import Image
from scipy.ndimage import gaussian_filter

from nuclass_pipeline.config.image import ImageConfig, RegistrationConfig, SegmentationConfig
from nuclass_pipeline.config.synthetic import SyntheticConfig
from nuclass_pipeline.data.alignment import Alignment, read_alignment, read_registration
from nuclass_pipeline.data.image.pictures import DOT_COLOR, KEY_PX, PANEL_PX
from nuclass_pipeline.data.image.pyramid import build_image
from nuclass_pipeline.data.image.slide import HeImage
from nuclass_pipeline.data.image.windows import open_image
from nuclass_pipeline.data.registration.affine import MIN_AFFINE_CELLS
from nuclass_pipeline.data.registration.correlation import ShiftFit
from nuclass_pipeline.data.registration.fit import fit_registration
from nuclass_pipeline.data.registration.nuclei_check import NucleiCheck
from nuclass_pipeline.data.registration.overlay import SHIFT_DETAIL_UM
from nuclass_pipeline.data.registration.stage import FAILED, register_image
from nuclass_pipeline.data.xenium.read import read_cells
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_json, read_table, read_warnings, write_table
from nuclass_pipeline.phantom import make_slide
from nuclass_pipeline.schemas import CELLS
from nuclass_pipeline.units import Micron

MPP = 0.5
SIDE_UM = 400
XY_UM = np.random.default_rng(0).uniform(20, SIDE_UM - 20, (600, 2))


@pytest.fixture
def slide(tmp_path):
    """An H&E at 0.5 µm/px, turned by 90° against the cells, with its alignment: keyword arguments of the stage."""
    dots, *_ = np.histogram2d(XY_UM[:, 1], XY_UM[:, 0], bins=round(SIDE_UM / MPP), range=((0, SIDE_UM), (0, SIDE_UM)))
    density = gaussian_filter(dots, 2.5 / MPP)
    density /= density.max()
    pixels = 245 * 10 ** (-density[..., None] * np.array([0.65, 0.70, 0.29]))
    tifffile.imwrite(tmp_path / "he.tif", np.rot90(pixels).astype(np.uint8).copy(), photometric="rgb", tile=(256, 256))
    scale = MPP / 0.2125
    # A quarter turn: H&E (x, y) comes from Xenium (side − y, x).
    matrix = np.array([[0, -scale, scale * SIDE_UM / MPP], [scale, 0, 0], [0, 0, 1]])
    np.savetxt(tmp_path / "alignment.csv", matrix, delimiter=",")
    (tmp_path / "experiment.xenium").write_text(json.dumps({"pixel_size": 0.2125}))
    frame = pd.DataFrame({"cell_id": [f"c{i}" for i in range(len(XY_UM))], "x_um": XY_UM[:, 0], "y_um": XY_UM[:, 1]})
    frame = frame.assign(cell_area_um2=1.0, nucleus_area_um2=1.0, transcripts=1, nucleus_transcripts=1.0, controls=0)
    write_table(frame, tmp_path / "cells.parquet", CELLS)
    return {
        "manifest": tmp_path / "experiment.xenium",
        "cells": tmp_path / "cells.parquet",
        "image": tmp_path / "he.tif",
        "alignment": tmp_path / "alignment.csv",
        "config": RegistrationConfig(),
        "segmentation": SegmentationConfig(),
        "registration": tmp_path / "registration.json",
        "slide": "s",
    }


def test_a_turned_image_is_registered(slide):
    register_image(**slide)
    record = read_json(slide["registration"])
    assert record["verdict"] == "good"
    assert record["mpp_he"] == pytest.approx(MPP)
    assert np.hypot(*record["shift_um"]) < 1
    assert record["cells_inside"] == 1


def stretch_pixels(slide, claim):
    """Store two rows of the H&E as one, with the alignment that then holds; `claim` are the sides that the file states."""
    pixels = tifffile.imread(slide["image"])
    oblong = pixels.reshape(len(pixels) // 2, 2, -1, 3).mean(axis=1).round().astype(np.uint8)
    metadata = {"axes": "YXS", "PhysicalSizeX": claim[0], "PhysicalSizeY": claim[1]}
    tifffile.imwrite(slide["image"], oblong, photometric="rgb", tile=(256, 256), ome=True, metadata=metadata)
    np.savetxt(slide["alignment"], np.loadtxt(slide["alignment"], delimiter=",") @ np.diag([1, 2, 1]), delimiter=",")


def test_pixels_that_are_not_square_are_resampled_square(slide, tmp_path):
    """The cells lie on their nuclei, in the checks and in `image.h5`, as on the H&E with square pixels."""
    register_image(**slide)
    square = read_json(slide["registration"])
    build_image(he=slide["image"], registration=slide["registration"], config=ImageConfig(), image=tmp_path / "square.h5")
    stretch_pixels(slide, (MPP, 2 * MPP))
    register_image(**slide)
    record = read_json(slide["registration"])
    assert (record["verdict"], record["warnings"]) == ("good", [])
    assert record["sides_um"] == pytest.approx([MPP, 2 * MPP])
    assert (record["height_px"], record["width_px"]) == (SIDE_UM, SIDE_UM / MPP)
    assert record["rotation_deg"] == square["rotation_deg"]
    assert record["correlation"] == pytest.approx(square["correlation"], abs=0.01)
    assert np.hypot(*np.subtract(record["shift_um"], square["shift_um"])) < 0.2
    assert record["nuclei"]["nuclei"] == pytest.approx(square["nuclei"]["nuclei"], rel=0.05)
    build_image(he=slide["image"], registration=slide["registration"], config=ImageConfig(), image=tmp_path / "oblong.h5")
    assert "its pixels are 0.5 × 1 µm by the file, and are resampled to square ones" in read_warnings(tmp_path / "oblong.h5")
    levels = []
    for name in ("square", "oblong"):
        with open_image(tmp_path / f"{name}.h5") as file:
            levels.append(gaussian_filter(file["level_0"][..., 1].astype(float), 2))
    # Turned by a quarter: x of the H&E is y of the cells.
    mapping, _ = read_registration(slide["registration"])
    assert mapping.to_image(Micron(XY_UM), 0.25) == pytest.approx(np.column_stack([XY_UM[:, 1], SIDE_UM - XY_UM[:, 0]]) / 0.25)
    for axis in (0, 1):
        assert abs(best_offset_px(*levels, axis)) < 0.2


def best_offset_px(image, other, axis):
    """Return how far `other` is moved against `image` along an axis, by a parabola through three correlations."""
    left, middle, right = (np.corrcoef(image.ravel(), np.roll(other, offset, axis).ravel())[0, 1] for offset in (-4, 0, 4))
    assert middle > 0.99
    return 4 * 0.5 * (left - right) / (left - 2 * middle + right)


@pytest.mark.parametrize("claim", [(MPP, MPP), (2 * MPP, MPP)])
def test_an_alignment_with_two_scales_that_the_file_does_not_explain_stops_until_it_does(slide, claim):
    """The remedy is the command of docs/data.md."""
    stretch_pixels(slide, claim)
    with pytest.raises(UserError, match=r"directions differ by 100 %: a pixel of the H&E is 0\.500 × 1\.000 µm"):
        register_image(**slide)
    described = tifffile.tiffcomment(slide["image"])
    for axis, side_um in (("X", MPP), ("Y", 2 * MPP)):
        described = re.sub(f'PhysicalSize{axis}="[^"]*"', f'PhysicalSize{axis}="{side_um}"', described)
    tifffile.tiffcomment(slide["image"], described.encode())
    register_image(**slide)
    assert read_json(slide["registration"])["sides_um"] == pytest.approx([MPP, 2 * MPP])


@pytest.mark.parametrize(("cells", "unseen"), [(60, True), (120, True), (300, False)])
def test_a_slide_with_few_cells_says_that_a_turn_may_stay_unseen(slide, cells, unseen, caplog):
    write_table(read_table(slide["cells"], CELLS)[:cells], slide["cells"], CELLS)
    register_image(**slide)
    record = read_json(slide["registration"])
    warning = rf"only \d+ cells lie in tissue .* at least {MIN_AFFINE_CELLS} are needed to measure a turn or shear, which may stay unseen"
    assert record["verdict"] == "good"
    assert (record["turn_deg"] is None) == unseen
    assert [bool(re.fullmatch(warning, found)) for found in record["warnings"]] == [True] * unseen
    assert bool(re.search(warning, caplog.text)) == unseen


def move_alignment(slide, x_um):
    matrix = np.loadtxt(slide["alignment"], delimiter=",")
    matrix[0, 2] += x_um / 0.2125
    np.savetxt(slide["alignment"], matrix, delimiter=",")


def test_a_shift_beyond_the_limit_stops_the_slide_with_its_number(slide):
    move_alignment(slide, 12)
    with pytest.raises(UserError, match=r"the H&E lies 1[12]\.\d µm off the nuclei"):
        register_image(**slide)
    assert not slide["registration"].exists()


def test_an_alignment_of_another_slide_is_refused(slide):
    move_alignment(slide, 5000)
    with pytest.raises(UserError, match="places every cell outside"):
        register_image(**slide)


def test_tissue_that_lies_on_tissue_by_chance_is_not_good(slide):
    """Cells turned by half a circle: nuclei meet nuclei here and there, and that is all."""
    cells = pd.read_parquet(slide["cells"])
    for name in ("x_um", "y_um"):
        cells[name] = cells[name].min() + cells[name].max() - cells[name]
    write_table(cells, slide["cells"], CELLS)
    slide["config"] = RegistrationConfig(max_shift_um=100)
    with pytest.raises(UserError, match=r"correlation 0\.\d\d with the cells, 0\.\d\d by chance, at least 0\.1 and twice that by chance"):
        register_image(**slide)
    assert not slide["registration"].exists()


NUCLEI_ELSEWHERE = NucleiCheck(4, 500, ShiftFit((6.0, 0.0), 0.1, 0.6, 0.1))


def test_an_unclear_slide_stops_with_a_remedy_that_works(slide, monkeypatch, caplog):
    monkeypatch.setattr("nuclass_pipeline.data.registration.verdict.check_nuclei", lambda *_: NUCLEI_ELSEWHERE)
    slide["config"] = RegistrationConfig(accept_unclear=("another",))
    with pytest.raises(UserError, match=r"by the nuclei found on it \(6\.0, 0\.0\)") as refusal:
        register_image(**slide)
    assert {path.name for path in slide["registration"].parent.glob("registration*")} == {FAILED}
    assert str(slide["registration"].with_name(FAILED)) in refusal.value.remedy
    keys = re.search(r"set `registration: (\{.*\})` in the run file", refusal.value.remedy)
    slide["config"] = RegistrationConfig(**yaml.safe_load(keys[1]))
    register_image(**slide)
    record = read_json(slide["registration"])
    assert (record["verdict"], record["accepted"], record["nuclei"]["shift_um"]) == ("unclear", True, [6.0, 0.0])
    assert read_warnings(slide["registration"]) == [refusal.value.problem]
    assert refusal.value.problem in caplog.text
    assert not slide["registration"].with_name(FAILED).exists()


def test_a_good_slide_is_not_accepted_but_good(slide):
    slide["config"] = RegistrationConfig(accept_unclear=("s",))
    register_image(**slide)
    record = read_json(slide["registration"])
    assert (record["verdict"], record["accepted"], record["warnings"]) == ("good", False, [])


def test_a_shifted_slide_cannot_be_accepted_as_unclear(slide):
    move_alignment(slide, 12)
    slide["config"] = RegistrationConfig(accept_unclear=("s",))
    with pytest.raises(UserError, match=r"the H&E lies 1[12]\.\d µm off the nuclei"):
        register_image(**slide)


def recolored(slide, change):
    tifffile.imwrite(slide["image"], change(tifffile.imread(slide["image"])), photometric="rgb", tile=(256, 256))


def test_red_and_blue_exchanged_stop_the_slide(slide):
    recolored(slide, lambda pixels: pixels[..., ::-1].copy())
    with pytest.raises(UserError, match=r"nuclei absorb blue \(0\.\d\d\) more than red .* look exchanged: export the H&E as RGB"):
        register_image(**slide)


@pytest.mark.parametrize("value", [255, 0, 128])
@pytest.mark.parametrize("half", [np.s_[:400], np.s_[400:], np.s_[:, :400], np.s_[:, 400:]])
def test_an_h_and_e_with_a_blank_half_stops(slide, half, value):
    def blank(pixels):
        pixels[half] = value
        return pixels

    recolored(slide, blank)
    with pytest.raises(UserError):
        register_image(**slide)


@pytest.mark.parametrize(("share", "matched"), [(0.2, 90), (0.33, 72)])
@pytest.mark.parametrize("kind", ["blank", "elsewhere"])
def test_a_good_slide_with_a_part_of_its_h_and_e_missing_has_a_warning(phantoms, tmp_path, share, matched, kind):
    pixels = tifffile.imread(phantoms["lung"]["image"])
    rows = round(share * len(pixels))
    pixels[:rows] = 205 if kind == "blank" else pixels[-rows:]
    tifffile.imwrite(tmp_path / "he.tif", pixels, photometric="rgb", tile=(256, 256))
    changed = {"image": tmp_path / "he.tif", "registration": tmp_path / "registration.json", "config": RegistrationConfig(windows=0)}
    register_image(**phantoms["lung"] | changed)
    record = read_json(tmp_path / "registration.json")
    percent = float(re.fullmatch(r"only (\d+\.\d) % of the cells match nuclei: .*", record["warnings"][0])[1])
    assert (record["verdict"], len(record["warnings"]), percent) == ("good", 1, pytest.approx(100 * record["matched_cells"], abs=0.05))
    assert percent == pytest.approx(matched, abs=1)


def test_a_good_slide_that_reaches_beyond_its_h_and_e_has_a_warning(slide):
    # The alignment turns by 90°, so that the last columns hold the cells with the smallest y.
    recolored(slide, lambda pixels: pixels[:, :-120].copy())
    register_image(**slide)
    record = read_json(slide["registration"])
    assert record["verdict"] == "good"
    assert f"only {100 * record['cells_inside']:.1f} % of the cells lie on the H&E" in record["warnings"][0]


def test_the_nuclei_check_can_be_turned_off(slide):
    slide["config"] = RegistrationConfig(windows=0)
    register_image(**slide)
    record = read_json(slide["registration"])
    assert (record["verdict"], record["nuclei"]) == ("good", None)


PHANTOMS = {"lung": ("lung", 11, 2500), "pancreas": ("pancreas", 3, 2500), "small": ("lung", 8, 900)}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """Tissue phantoms by name: keyword arguments of the stage."""
    slides = {}
    for name, (organ, seed, cells) in PHANTOMS.items():
        folder = tmp_path_factory.mktemp(name)
        files = {"manifest": folder / "outs/experiment.xenium", "image": folder / "he.tif", "alignment": folder / "alignment.csv"}
        config = SyntheticConfig(cells=cells, transcripts_per_cell=20)
        make_slide(organ=organ, seed=seed, config=config, truth=folder / "truth.parquet", **files)
        read_cells(manifest=files["manifest"], cells=folder / "cells.parquet", counts=folder / "counts.h5ad")
        slides[name] = {
            "slide": name,
            **files,
            "cells": folder / "cells.parquet",
            "config": RegistrationConfig(),
            "segmentation": SegmentationConfig(),
        }
    return slides


def centroids(slide):
    return Micron(read_table(slide["cells"], CELLS)[["x_um", "y_um"]].to_numpy())


def about_the_middle(slide, linear):
    """Return the change of the Xenium frame, (3, 3) in px, that keeps the middle of the cells."""
    middle = centroids(slide).mean(axis=0) / 0.2125
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = linear, middle - linear @ middle
    return matrix


def moved_by(x_um, y_um):
    return np.array([[1, 0, x_um / 0.2125], [0, 1, y_um / 0.2125], [0, 0, 1]])


def turn(degrees):
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[cos, -sin], [sin, cos]])


def planted(slide, change):
    """Return the fit through a changed alignment, the shift that each cell needs, (N, 2) in µm, and the cells in px of 1 µm."""
    sound, xy_um = read_alignment(slide["alignment"], 0.2125), centroids(slide)
    changed = Alignment(change @ sound.matrix, 0.2125)
    with HeImage(slide["image"]) as he:
        found = fit_registration(he, changed, xy_um, slide["config"])
    return found, (sound.to_he(xy_um) - changed.to_he(xy_um)) * changed.mpp_he, changed.to_image(xy_um, 1.0)


SHIFTS = [(1, 20), (2, 200), (3, 75), (4, 310), (5.5, 45), (8, 120), (12, 270), (16, 0), (20, 165)]


def test_planted_shifts_are_recovered_and_those_above_the_limit_flagged(phantoms):
    errors = []
    for name, slide in phantoms.items():
        for distance_um, direction in SHIFTS:
            x_um, y_um = distance_um * turn(direction)[:, 0]
            found, needed_um, _ = planted(slide, moved_by(x_um, y_um))
            assert np.hypot(*needed_um.T) == pytest.approx(distance_um)
            assert found.verdict(5) == ("shifted" if distance_um > 5 else "good"), (name, distance_um)
            errors.append(np.hypot(*(found.whole.shift_um - needed_um[0])))
            errors += [np.hypot(*(region.fit.shift_um - needed_um[0])) for region in found.clear]
    assert np.median(errors) < 1
    assert max(errors) < 1.5


@pytest.mark.parametrize("name", PHANTOMS)
def test_a_slide_that_is_right_is_good_in_all_its_regions(phantoms, name, tmp_path):
    (tmp_path / FAILED).write_text("of an earlier run")
    register_image(**phantoms[name], registration=tmp_path / "registration.json")
    record = read_json(tmp_path / "registration.json")
    assert record["verdict"] == "good"
    assert np.hypot(*record["shift_um"]) < 1
    assert record["confidence"] == pytest.approx(1 - record["correlation_chance"] / record["correlation_best"])
    assert record["confidence"] > 0.7
    assert record["warnings"] == []
    assert record["nuclei"]["clear"]
    assert np.hypot(*record["nuclei"]["shift_um"]) < 1
    assert record["nuclei"]["nuclei"] > 100 * record["nuclei"]["windows"]
    assert len(record["regions"]) == (8 if PHANTOMS[name][2] == 2500 else 2)
    mapping = read_alignment(phantoms[name]["alignment"], 0.2125)
    x_um, y_um = (mapping.to_he(centroids(phantoms[name])) * mapping.mpp_he).T
    for region in record["regions"]:
        assert set(region) == {"x_um", "y_um", "cells", "shift_um", "correlation_best", "confidence", "clear"}
        assert region["clear"]
        assert np.hypot(*region["shift_um"]) < 1.5
        assert x_um.min() < region["x_um"] < x_um.max()
        assert y_um.min() < region["y_um"] < y_um.max()
    assert {path.name for path in tmp_path.iterdir()} == {"registration.json"}


@pytest.mark.parametrize("linear", [turn(1), turn(-1), np.diag([1.02, 1.02]), np.diag([1.02, 1])])
@pytest.mark.parametrize("name", ["lung", "pancreas"])
def test_a_turn_or_stretch_about_the_middle_is_flagged_by_its_regions(phantoms, name, linear):
    found, needed_um, xy_px = planted(phantoms[name], about_the_middle(phantoms[name], linear))
    assert found.verdict(5) == "shifted"
    assert found.whole.distance_um < 5
    errors = [np.hypot(*(region.fit.shift_um - needed_um[region.holds(xy_px)].mean(axis=0))) for region in found.clear]
    assert np.median(errors) < 1


def test_a_turn_that_moves_nothing_far_is_good(phantoms):
    for degrees in (0.3, -0.3):
        assert planted(phantoms["lung"], about_the_middle(phantoms["lung"], turn(degrees)))[0].verdict(5) == "good"


@pytest.mark.parametrize("share", [0.5, 0.28])
@pytest.mark.parametrize("name", ["lung", "pancreas"])
def test_a_side_of_the_slide_that_slipped_by_10_um_is_flagged_by_its_regions(phantoms, name, share, tmp_path):
    slide = phantoms[name]
    cells = read_table(slide["cells"], CELLS)
    slipped = cells["x_um"] > cells["x_um"].max() - share * np.ptp(cells["x_um"])
    cells.loc[slipped, "y_um"] += 10
    write_table(cells, tmp_path / "cells.parquet", CELLS)
    slide = slide | {"cells": tmp_path / "cells.parquet"}
    found, *_ = planted(slide, np.eye(3))
    assert found.verdict(5) == "shifted"
    shifts_um = [region.fit.distance_um for region in found.shifted_regions(5)]
    assert len(shifts_um) == round(8 * share)
    assert shifts_um == pytest.approx([10] * len(shifts_um), abs=1)
    if share < 0.5:
        assert found.whole.distance_um < 1
    with pytest.raises(UserError, match=rf"the H&E lies (9|10)\.\d µm off the nuclei in {len(shifts_um)} of 8 regions"):
        register_image(**slide, registration=tmp_path / "registration.json")


def test_a_shifted_slide_leaves_a_picture_of_the_cells_before_and_after_and_nothing_else(phantoms, tmp_path):
    slide = phantoms["lung"]
    (tmp_path / "alignment.csv").write_text(
        "\n".join(",".join(map(repr, row)) for row in (moved_by(0, 8) @ np.loadtxt(slide["alignment"], delimiter=",")).tolist())
    )
    with pytest.raises(UserError) as refusal:
        register_image(**(slide | {"alignment": tmp_path / "alignment.csv"}), registration=tmp_path / "out/registration.json")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [FAILED]
    assert str(tmp_path / "out" / FAILED) in refusal.value.remedy
    assert "registration.max_shift_um" in refusal.value.remedy
    assert refusal.value.file == str(tmp_path / "alignment.csv")
    with Image.open(tmp_path / "out" / FAILED) as picture:
        assert picture.size == (2 * PANEL_PX, PANEL_PX + KEY_PX)
        circles = (np.asarray(picture)[:PANEL_PX] == DOT_COLOR).all(axis=2).astype(float)
    before, after = circles[:, :PANEL_PX], circles[:, PANEL_PX:]
    assert before.sum() > 500
    surface = np.fft.irfft2(np.fft.rfft2(after) * np.conj(np.fft.rfft2(before)))
    row, column = np.unravel_index(surface.argmax(), surface.shape)
    drawn_px = (np.array([column, row]) + PANEL_PX / 2) % PANEL_PX - PANEL_PX / 2
    needed_um = planted(slide, moved_by(0, 8))[1][0]
    assert drawn_px * SHIFT_DETAIL_UM / PANEL_PX == pytest.approx(needed_um, abs=1)
