import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from nuclass_pipeline.config.evaluation import Fractions, SplitConfig
from nuclass_pipeline.data.splits import SUBSETS, assign_subsets, split_cells
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_table, write_table
from nuclass_pipeline.schemas import CELLS, LABELS, SPLIT


def cells(count, width, height, seed):
    rng = np.random.default_rng(seed)
    return rng.uniform((0, 0), (width, height), (count, 2)), rng.choice(["T_Cell", "Fibroblast", "Unresolved"], count).astype(object)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), buffer_um=st.floats(0, 200), width=st.floats(800, 9000))
def test_subsets_are_at_least_a_buffer_apart(seed, buffer_um, width):
    xy_um, classes = cells(1500, width, 700, seed)
    subsets = assign_subsets(xy_um, classes, SplitConfig(buffer_um=buffer_um, band_um=2000))
    for first, second in (("train", "gate"), ("train", "val"), ("gate", "val")):
        distances = cdist(xy_um[subsets == first], xy_um[subsets == second], "chebyshev")
        assert distances.size == 0 or distances.min() >= buffer_um


def test_shares_of_labelled_cells_follow_the_fractions_without_a_buffer():
    xy_um, classes = cells(20000, 8000, 3000, 1)
    config = SplitConfig(buffer_um=0, fractions=Fractions(train=0.5, gate=0.2, val=0.3))
    labelled = classes != "Unresolved"
    subsets = assign_subsets(xy_um, classes, config)[labelled]
    assert [round(float((subsets == subset).mean()), 2) for subset in SUBSETS] == [0.5, 0.2, 0.3]


def test_the_axis_that_keeps_every_class_in_every_subset_is_chosen():
    xy_um, _ = cells(3000, 1000, 1000, 2)
    classes = np.where(xy_um[:, 0] < 300, "T_Cell", "Fibroblast").astype(object)
    subsets = assign_subsets(xy_um, classes, SplitConfig())
    assert all(set(classes[subsets == subset]) == {"T_Cell", "Fibroblast"} for subset in SUBSETS)


def write_slide(folder, xy_um, classes):
    ids = [f"c{i}" for i in range(len(xy_um))]
    frame = pd.DataFrame({"cell_id": ids, "x_um": xy_um[:, 0], "y_um": xy_um[:, 1], "transcripts": 9, "controls": 0})
    write_table(frame.assign(cell_area_um2=1.0, nucleus_area_um2=1.0, nucleus_transcripts=3.0), folder / "cells.parquet", CELLS)
    empty = dict.fromkeys(["cluster", "candidate", "lineage", "reason", "source"])
    empty |= dict.fromkeys(["lineage_confidence", "support", "margin", "purity"], np.nan)
    write_table(pd.DataFrame({"cell_id": ids, "label": classes, "confidence": 1.0}).assign(**empty), folder / "labels.parquet", LABELS)
    return {"cells": folder / "cells.parquet", "labels": folder / "labels.parquet", "split": folder / "split.parquet"}


def test_heldout_slides_have_no_other_subset(tmp_path):
    files = write_slide(tmp_path, *cells(500, 900, 400, 3))
    split_cells(**files, role="heldout", config=SplitConfig(block_um=100))
    split = read_table(files["split"], SPLIT)
    assert split["subset"].unique().tolist() == ["heldout"]
    assert split["block"].nunique() == 36


def test_a_slide_too_small_for_its_buffer_is_refused(tmp_path):
    files = write_slide(tmp_path, *cells(50, 60, 60, 4))
    with pytest.raises(UserError, match="too small for split"):
        split_cells(**files, role="train", config=SplitConfig())
    assert not files["split"].exists()
