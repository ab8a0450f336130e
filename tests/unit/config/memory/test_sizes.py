"""How many cells a slide has, from the first file that says it."""

import h5py
import numpy as np
import pandas as pd
import pytest

from nuclass_pipeline.config.memory.sizes import ASSUMED_CELLS, CELLS_PER_MM2, GENES_IN_CELL, SlideSize, read_size
from nuclass_pipeline.config.run_file import Config
from nuclass_pipeline.config.slides import Slide
from nuclass_pipeline.io import write_json


@pytest.fixture
def config():
    return Config.model_validate({"run": "r", "study": {"label": ["mine"]}, "synthetic": {"cells": 4000, "cells_per_mm2": 2000}})


@pytest.fixture
def slide(tmp_path):
    (tmp_path / "outs").mkdir()
    return Slide(slide="mine", kind="xenium", organ="lung", bundle=str(tmp_path / "outs"), image="he.tif")


def test_a_slide_about_which_nothing_is_known_has_the_assumed_size(slide, config, tmp_path):
    size = read_size(slide, config, tmp_path / "results")
    assert size == SlideSize(ASSUMED_CELLS, ASSUMED_CELLS * GENES_IN_CELL, ASSUMED_CELLS / CELLS_PER_MM2, "assumed")


def test_the_sheet_the_bundle_and_the_results_take_precedence_in_this_order(slide, config, tmp_path):
    slide = slide.model_copy(update={"cells": 70_000})
    assert read_size(slide, config, tmp_path) == SlideSize(70_000, 70_000 * 70, 70_000 / CELLS_PER_MM2, "sheet")
    write_json({"num_cells": 71_000}, tmp_path / "outs/experiment.xenium")
    found = read_size(slide, config, tmp_path)
    assert (found.cells, found.counts, found.source) == (71_000, 71_000 * 70, "bundle")
    pd.DataFrame({"cell_id": ["a", "b", "c"]}).to_parquet(tmp_path / "cells.parquet")
    found = read_size(slide, config, tmp_path)
    assert (found.cells, found.counts, found.source) == (3, 3 * 70, "results")


def test_counts_are_those_of_the_matrix_and_the_area_is_that_of_the_registered_image(slide, config, tmp_path):
    with h5py.File(tmp_path / "outs/cell_feature_matrix.h5", "w") as file:
        file["matrix/data"] = np.ones(17)
    assert read_size(slide, config, tmp_path).counts == 17
    with h5py.File(tmp_path / "counts.h5ad", "w") as file:
        file["X/data"] = np.ones(11)
    assert read_size(slide, config, tmp_path).counts == 11
    write_json({"height_px": 4000, "width_px": 8000, "mpp_he": 0.5}, tmp_path / "registration.json")
    assert read_size(slide, config, tmp_path).area_mm2 == pytest.approx(8)


def test_a_file_that_changes_is_read_again(slide, config, tmp_path):
    for cells in (5, 12_345):
        write_json({"num_cells": cells}, tmp_path / "outs/experiment.xenium")
        assert read_size(slide, config, tmp_path).cells == cells


@pytest.mark.parametrize("content", ["", "{}", '{"num_cells": "many"}', '{"num_cells": 0}', "[]", "\x00"])
def test_a_broken_manifest_says_nothing(slide, config, tmp_path, content):
    (tmp_path / "outs/experiment.xenium").write_text(content)
    assert read_size(slide, config, tmp_path).source == "assumed"


def test_a_synthetic_slide_has_the_size_of_the_run_file_although_an_earlier_one_is_there(config, tmp_path):
    bundle = str(tmp_path / "outs")
    slide = Slide.model_construct(slide="demo", kind="synthetic", organ="lung", bundle=bundle, image="he.tif", cells=None)
    pd.DataFrame({"cell_id": ["a"]}).to_parquet(tmp_path / "cells.parquet")
    assert read_size(slide, config, tmp_path) == SlideSize(4000, 4000 * 70, 3.0, "run file")


def test_points_and_patches_are_counted_without_transcripts(config, tmp_path):
    (tmp_path / "points.csv").write_text("image,x,y,label\n" + "a,1,1,t\n" * 9)
    points = Slide(slide="p", kind="images", organ="lung", bundle=str(tmp_path))
    assert (read_size(points, config, tmp_path / "r").cells, read_size(points, config, tmp_path / "r").counts) == (9, 0)
    with h5py.File(tmp_path / "patches_224x224.h5", "w") as file:
        file["keys"] = np.array([b"a"] * 6)
    trio = Slide(slide="t", kind="trio", organ="lung", bundle=str(tmp_path))
    assert (read_size(trio, config, tmp_path / "r").cells, read_size(trio, config, tmp_path / "r").source) == (6, "bundle")
