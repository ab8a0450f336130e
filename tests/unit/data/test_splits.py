import json
import logging
import re

import h5py
import numpy as np
import pandas as pd
import pytest

from nuclass_pipeline.config.evaluation import SplitConfig
from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.splits import split_cells
from nuclass_pipeline.data.strips import SUBSETS, assign_subsets
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_table, read_warnings, write_table
from nuclass_pipeline.schemas import CELLS, LABELS, SPLIT


def cells(count, width, height, seed):
    rng = np.random.default_rng(seed)
    return rng.uniform((0, 0), (width, height), (count, 2)), rng.choice(["T_Cell", "Fibroblast", "Unresolved"], count).astype(object)


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
    split_cells(**files, role="heldout", config=SplitConfig(block_um=100), image=ImageConfig())
    split = read_table(files["split"], SPLIT)
    assert split["subset"].unique().tolist() == ["heldout"]
    assert split["block"].nunique() == 36


@pytest.mark.parametrize("role", ["train", "heldout", "predict"])
def test_cells_without_image_are_excluded_with_their_reason_and_move_no_other_cell(tmp_path, role):
    xy_um, classes = cells(2000, 2500, 900, 5)
    reasons = np.where(xy_um[:, 0] < 300, "outside the H&E", np.where(xy_um[:, 0] > 2300, "no tissue", "")).astype(object)
    files = write_slide(tmp_path, xy_um, classes, reasons)
    split_cells(**files, role=role, config=SplitConfig(), image=ImageConfig())
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
        assert split["subset"][kept].tolist() == assign_subsets(xy_um[kept], classes[kept], SplitConfig(), 256).tolist()


def test_a_slide_on_which_no_cell_has_an_image_is_refused(tmp_path):
    files = write_slide(tmp_path, *cells(50, 900, 400, 3), ["no tissue"] * 49 + ["outside the H&E"])
    with pytest.raises(UserError, match="none of 50 cells has an image: no tissue 49, outside the H&E 1"):
        split_cells(**files, role="heldout", config=SplitConfig(), image=ImageConfig())
    assert not files["split"].exists()


def test_a_class_lost_to_the_buffer_and_a_small_slide_are_warnings_with_numbers(tmp_path):
    xy_um, classes = cells(450, 3000, 1500, 6)
    classes[:] = "T_Cell"
    subsets = assign_subsets(xy_um, classes, SplitConfig(), 256)
    rare = np.flatnonzero(subsets == "buffer")[:7]
    classes[rare] = "Mast_Cell"
    files = write_slide(tmp_path, xy_um, classes)
    split_cells(**files, role="train", config=SplitConfig(), image=ImageConfig())
    split = read_table(files["split"], SPLIT)
    mast = split["subset"][classes == "Mast_Cell"].value_counts()
    numbers = ", ".join(f"{name} {mast.get(name, 0)}" for name in (*SUBSETS, "buffer"))
    assert read_warnings(files["split"]) == [
        "only 450 cells have a label and an image; scores of fewer than 500 are uncertain",
        f"1 of 2 classes have fewer than 5 cells in a subset. Mast_Cell: {numbers}",
    ]
    split_cells(**files, role="heldout", config=SplitConfig(), image=ImageConfig())
    assert [warning[:4] for warning in read_warnings(files["split"])] == ["only"]


def test_patches_of_other_cells_are_refused(tmp_path):
    files = write_slide(tmp_path, *cells(50, 900, 400, 3))
    (tmp_path / "other").mkdir()
    files["patches"] = write_slide(tmp_path / "other", *cells(48, 900, 400, 3))["patches"]
    with pytest.raises(UserError, match="no patch for 2 cells, such as c48"):
        split_cells(**files, role="heldout", config=SplitConfig(), image=ImageConfig())


def test_labels_of_other_cells_are_refused(tmp_path):
    files = write_slide(tmp_path, *cells(50, 900, 400, 3))
    (tmp_path / "other").mkdir()
    files["labels"] = write_slide(tmp_path / "other", *cells(48, 900, 400, 3))["labels"]
    with pytest.raises(UserError, match="cell_id: no row for 2 cells, such as c48"):
        split_cells(**files, role="heldout", config=SplitConfig(), image=ImageConfig())


def write_registration(folder, rotation_deg):
    angle = np.deg2rad(rotation_deg)
    matrix = [[np.cos(angle), -np.sin(angle), 40.0], [np.sin(angle), np.cos(angle), -9.0], [0, 0, 1]]
    entries = {"matrix": np.array(matrix).tolist(), "xenium_mpp": 0.2125, "residual_um": 0.0, "sides_um": [0.2125, 0.2125]}
    (folder / "registration.json").write_text(json.dumps(entries))
    return folder / "registration.json"


def split_of(folder, xy_um, classes, buffer_um=None, rotation_deg=None):
    """Return the subsets of a training slide, and its warnings about buffers."""
    files = write_slide(folder, xy_um, classes)
    if rotation_deg is not None:
        files["registration"] = write_registration(folder, rotation_deg)
    split_cells(**files, role="train", config=SplitConfig(buffer_um=buffer_um), image=ImageConfig())
    warnings = read_warnings(files["split"])
    about = [warning for warning in warnings if "context" in warning]
    return read_table(files["split"], SPLIT)["subset"].to_numpy(), about


@pytest.mark.parametrize("rotation_deg", [None, 0, 91.5, 33])
def test_no_pixel_is_shared_by_default(tmp_path, caplog, rotation_deg):
    caplog.set_level(logging.INFO)
    subsets, warnings = split_of(tmp_path, *cells(3000, 3000, 900, 7), rotation_deg=rotation_deg)
    assert warnings == [] and set(subsets) == {*SUBSETS, "buffer"}
    counts = pd.Series(subsets).where(cells(3000, 3000, 900, 7)[1] != "Unresolved").value_counts()
    for subset in ("gate", "val"):
        assert f"{subset}: 0 of {counts[subset]} labelled cells share pixels of their context with training windows" in caplog.text


def test_a_side_of_the_window_is_too_narrow_a_buffer_for_a_turned_image(tmp_path):
    _, warnings = split_of(tmp_path, *cells(3000, 3000, 900, 7), buffer_um=256, rotation_deg=33)
    assert len(warnings) == 1 and "share pixels of their context with training windows" in warnings[0]


def test_the_cells_that_share_pixels_are_counted(tmp_path):
    """On a line of cells 10 µm apart, those of a strip that are within a window of the next one are counted by hand."""
    xy_um = np.stack([np.arange(0, 4000, 10.0), np.full(400, 50.0)], axis=1)
    subsets, warnings = split_of(tmp_path, xy_um, np.full(400, "T_Cell", object), buffer_um=128)
    shared = {}
    for subset in ("gate", "val"):
        near = np.abs(xy_um[subsets == subset][:, None, 0] - xy_um[subsets == "train"][None, :, 0]).min(axis=1) < 256
        shared[subset] = f"{near.sum()} of {len(near)} {subset} cells ({100 * near.mean():.1f} %)" if near.any() else ""
    expected = " and ".join(filter(None, shared.values()))
    assert warnings == [f"{expected} share pixels of their context with training windows"]
    assert "13 of" in expected


def test_a_slide_too_small_for_whole_windows_gets_the_widest_buffers_that_fit(tmp_path):
    xy_um, classes = cells(1500, 900, 500, 4)
    subsets, (narrower, shared) = split_of(tmp_path, xy_um, classes)
    used_um = int(re.fullmatch(r"buffers as wide as a context window \(256 µm\) leave too few .*, so they are (\d+) µm wide", narrower)[1])
    labelled = classes != "Unresolved"
    assert 128 < used_um < 256 and "share pixels of their context with training windows" in shared
    lost = [(assign_subsets(xy_um, classes, SplitConfig(), um)[labelled] == "buffer").mean() for um in (used_um, used_um + 1)]
    assert lost[0] <= 0.5 < lost[1]
    assert (subsets == assign_subsets(xy_um, classes, SplitConfig(), used_um)).all()


def test_images_are_split_by_case_and_share_nothing(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    files = write_slide(tmp_path, *cells(600, 6000, 300, 8))
    table = read_table(files["cells"], CELLS)
    # Cases 600 µm long with gaps of a window, as a mosaic has.
    case = (table["x_um"] // 600).astype(int)
    table["x_um"] += 256 * case
    write_table(table.assign(case="case-" + case.astype(str), image="i"), files["cells"], CELLS)
    split_cells(**files, role="train", config=SplitConfig(), image=ImageConfig())
    assert not [warning for warning in read_warnings(files["split"]) if "context" in warning]
    assert caplog.text.count(": 0 of ") == 2


@pytest.mark.parametrize(
    ("buffer_um", "left", "remedy"),
    [
        (None, "buffers of 128 µm", "Move the slide from study.train to study.heldout."),
        (128, "buffers of 128 µm", "Move the slide from study.train to study.heldout."),
        (900, "buffers of 900 µm", "Remove split.buffer_um for narrower buffers, or move the slide from study.train to study.heldout."),
    ],
)
def test_a_slide_too_small_for_half_a_window_is_refused(tmp_path, buffer_um, left, remedy):
    xy_um, classes = cells(50, 60, 60, 4)
    count = (classes != "Unresolved").sum()
    with pytest.raises(UserError, match=rf"none of {count} labelled cells is left for '\w+' beside {left}") as caught:
        split_of(tmp_path, xy_um, classes, buffer_um)
    assert str(caught.value).endswith(remedy)
    assert not (tmp_path / "split.parquet").exists()


def test_the_remedy_for_too_wide_a_buffer_works(tmp_path):
    slide = cells(1500, 900, 500, 4)
    with pytest.raises(UserError, match=r"Remove split\.buffer_um"):
        split_of(tmp_path, *slide, buffer_um=900)
    assert set(split_of(tmp_path, *slide)[0]) == {*SUBSETS, "buffer"}
