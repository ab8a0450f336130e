import json

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

from nuclass_pipeline.config.study import RegistrationConfig
from nuclass_pipeline.data.register import Fit, compare, judge, register_image
from nuclass_pipeline.data.registration import Alignment
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_json, write_table
from nuclass_pipeline.schemas import CELLS
from nuclass_pipeline.units import Micron

MPP = 0.5
SIDE_UM = 400


def nuclei(count=600, seed=0):
    return np.random.default_rng(seed).uniform(20, SIDE_UM - 20, (count, 2))


def paint(xy_um, mpp):
    side = round(SIDE_UM / mpp)
    dots, *_ = np.histogram2d(xy_um[:, 1], xy_um[:, 0], bins=side, range=((0, SIDE_UM), (0, SIDE_UM)))
    density = gaussian_filter(dots, 2.5 / mpp)
    return density / density.max()


@pytest.mark.parametrize("shift", [(0, 0), (1, 0), (-3, 2), (7.5, -4), (0, 20), (-14, 14)])
def test_a_known_shift_is_recovered_within_a_micron(shift):
    xy = nuclei()
    density = paint(xy, 1.0).astype(np.float32)
    fit = compare(density, Alignment(np.eye(3), 1.0), Micron(xy - shift), search_um=30)
    assert fit.shift_um == pytest.approx(shift, abs=1.0)
    assert fit.agreement_best > 0.5
    assert fit.agreement <= fit.agreement_best


def test_unrelated_nuclei_do_not_agree():
    fit = compare(paint(nuclei(seed=1), 1.0).astype(np.float32), Alignment(np.eye(3), 1.0), Micron(nuclei(seed=2)), search_um=30)
    assert fit.agreement_best < 0.2


@pytest.fixture
def slide(tmp_path):
    """An H&E at 0.5 µm/px, turned by 90° against the cells, with its alignment: keyword arguments of the stage."""
    xy = nuclei()
    density = paint(xy, MPP)
    pixels = 245 * 10 ** (-density[..., None] * np.array([0.65, 0.70, 0.29]))
    tifffile.imwrite(tmp_path / "he.tif", np.rot90(pixels).astype(np.uint8).copy(), photometric="rgb", tile=(256, 256))
    scale = MPP / 0.2125
    # A quarter turn: H&E (x, y) comes from Xenium (side − y, x).
    matrix = np.array([[0, -scale, scale * SIDE_UM / MPP], [scale, 0, 0], [0, 0, 1]])
    np.savetxt(tmp_path / "alignment.csv", matrix, delimiter=",")
    (tmp_path / "experiment.xenium").write_text(json.dumps({"pixel_size": 0.2125}))
    frame = pd.DataFrame({"cell_id": [f"c{i}" for i in range(len(xy))], "x_um": xy[:, 0], "y_um": xy[:, 1]})
    write_table(frame.assign(cell_area_um2=1.0, nucleus_area_um2=1.0, transcripts=1, controls=0), tmp_path / "cells.parquet", CELLS)
    return {
        "manifest": tmp_path / "experiment.xenium",
        "cells": tmp_path / "cells.parquet",
        "image": tmp_path / "he.tif",
        "alignment": tmp_path / "alignment.csv",
        "config": RegistrationConfig(),
        "registration": tmp_path / "registration.json",
    }


def test_a_turned_image_is_registered(slide):
    register_image(**slide)
    record = read_json(slide["registration"])
    assert record["verdict"] == "good"
    assert record["mpp_he"] == pytest.approx(MPP)
    assert np.hypot(*record["shift_um"]) < 1
    assert record["cells_inside"] == 1


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
    register_image(**slide)
    record = read_json(slide["registration"])
    assert record["verdict"] == "unclear"
    assert record["agreement_best"] < 2 * record["agreement_chance"]


def test_the_verdict_weighs_agreement_against_chance():
    near, far = Fit((1.0, 0.0), 0.5, 0.6), Fit((6.0, 0.0), 0.2, 0.6)
    assert [judge(near, 0.1, 5), judge(far, 0.1, 5), judge(near, 0.3, 5), judge(Fit((0.0, 0.0), 0.05, 0.05), 0.01, 5)] == [
        "good",
        "shifted",
        "unclear",
        "unclear",
    ]
