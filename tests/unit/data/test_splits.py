import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from nuclass_pipeline.config.evaluation import Fractions, SplitConfig
from nuclass_pipeline.data.splits import SUBSETS, assign_subsets, split_cells
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_table, read_warnings, write_table
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


def write_slide(folder, xy_um, classes, reasons=None):
    ids = [f"c{i}" for i in range(len(xy_um))]
    frame = pd.DataFrame({"cell_id": ids, "x_um": xy_um[:, 0], "y_um": xy_um[:, 1], "transcripts": 9, "controls": 0})
    write_table(frame.assign(cell_area_um2=1.0, nucleus_area_um2=1.0, nucleus_transcripts=3.0), folder / "cells.parquet", CELLS)
    empty = dict.fromkeys(["cluster", "candidate", "lineage", "reason", "source"])
    empty |= dict.fromkeys(["lineage_confidence", "support", "margin", "purity"], np.nan)
    write_table(pd.DataFrame({"cell_id": ids, "label": classes, "confidence": 1.0}).assign(**empty), folder / "labels.parquet", LABELS)
    with h5py.File(folder / "patches.h5", "w") as file:
        # Backwards, because patches may be in another order than cells.
        file.create_dataset("keys", data=ids[::-1], dtype=h5py.string_dtype())
        file.create_dataset("images", (len(ids), 8, 8, 3), np.uint8)
        file.create_dataset("reason", data=list(reasons if reasons is not None else [""] * len(ids))[::-1], dtype=h5py.string_dtype())
    names = {"cells": "cells.parquet", "labels": "labels.parquet", "patches": "patches.h5", "split": "split.parquet"}
    return {name: folder / file for name, file in names.items()}


def test_heldout_slides_have_no_other_subset(tmp_path):
    files = write_slide(tmp_path, *cells(500, 900, 400, 3))
    split_cells(**files, role="heldout", config=SplitConfig(block_um=100))
    split = read_table(files["split"], SPLIT)
    assert split["subset"].unique().tolist() == ["heldout"]
    assert split["block"].nunique() == 36


@pytest.mark.parametrize("role", ["train", "heldout", "predict"])
def test_cells_without_image_are_excluded_with_their_reason_and_move_no_other_cell(tmp_path, role):
    xy_um, classes = cells(2000, 2500, 900, 5)
    reasons = np.where(xy_um[:, 0] < 300, "outside the H&E", np.where(xy_um[:, 0] > 2300, "no tissue", "")).astype(object)
    files = write_slide(tmp_path, xy_um, classes, reasons)
    split_cells(**files, role=role, config=SplitConfig())
    split = read_table(files["split"], SPLIT)
    excluded = split["subset"] == "excluded"
    assert split["cell_id"].tolist() == [f"c{i}" for i in range(2000)]
    assert (excluded == (reasons != "")).all()
    assert split["reason"][excluded].tolist() == reasons[excluded].tolist()
    assert split["reason"][~excluded].isna().all()
    outside, glass = (int((reasons == reason).sum()) for reason in ("outside the H&E", "no tissue"))
    told = f"{outside + glass} of 2000 cells have no image and are in no subset: outside the H&E {outside}, no tissue {glass}"
    assert read_warnings(files["split"]) == [told]
    if role == "train":
        # As if the others did not exist, because their classes must not choose the strips.
        kept = ~excluded.to_numpy()
        assert split["subset"][kept].tolist() == assign_subsets(xy_um[kept], classes[kept], SplitConfig()).tolist()


def test_a_slide_on_which_no_cell_has_an_image_is_refused(tmp_path):
    files = write_slide(tmp_path, *cells(50, 900, 400, 3), ["no tissue"] * 49 + ["outside the H&E"])
    with pytest.raises(UserError, match="none of 50 cells has an image: no tissue 49, outside the H&E 1"):
        split_cells(**files, role="heldout", config=SplitConfig())
    assert not files["split"].exists()


def test_a_class_lost_to_the_buffer_and_a_small_slide_are_warnings_with_numbers(tmp_path):
    xy_um, classes = cells(450, 3000, 900, 6)
    classes[:] = "T_Cell"
    subsets = assign_subsets(xy_um, classes, SplitConfig())
    rare = np.flatnonzero(subsets == "buffer")[:7]
    classes[rare] = "Mast_Cell"
    files = write_slide(tmp_path, xy_um, classes)
    split_cells(**files, role="train", config=SplitConfig())
    split = read_table(files["split"], SPLIT)
    mast = split["subset"][classes == "Mast_Cell"].value_counts()
    numbers = ", ".join(f"{name} {mast.get(name, 0)}" for name in (*SUBSETS, "buffer"))
    assert read_warnings(files["split"]) == [
        "only 450 cells have a label and an image; scores of fewer than 500 are uncertain",
        f"1 of 2 classes have fewer than 5 cells in a subset. Mast_Cell: {numbers}",
    ]
    split_cells(**files, role="heldout", config=SplitConfig())
    assert [warning[:4] for warning in read_warnings(files["split"])] == ["only"]


def test_patches_of_other_cells_are_refused(tmp_path):
    files = write_slide(tmp_path, *cells(50, 900, 400, 3))
    (tmp_path / "other").mkdir()
    files["patches"] = write_slide(tmp_path / "other", *cells(48, 900, 400, 3))["patches"]
    with pytest.raises(UserError, match="no patch for 2 cells, such as c48"):
        split_cells(**files, role="heldout", config=SplitConfig())


def test_labels_of_other_cells_are_refused(tmp_path):
    files = write_slide(tmp_path, *cells(50, 900, 400, 3))
    (tmp_path / "other").mkdir()
    files["labels"] = write_slide(tmp_path / "other", *cells(48, 900, 400, 3))["labels"]
    with pytest.raises(UserError, match="cell_id: no row for 2 cells, such as c48"):
        split_cells(**files, role="heldout", config=SplitConfig())


def test_a_slide_too_small_for_its_buffer_is_refused(tmp_path):
    files = write_slide(tmp_path, *cells(50, 60, 60, 4))
    with pytest.raises(UserError, match="too small for split"):
        split_cells(**files, role="train", config=SplitConfig())
    assert not files["split"].exists()
