import io

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from nuclass_pipeline.io import read_table, write_table
from nuclass_pipeline.schemas import CELLS, LABELS, POINT_IMAGES, provided_labels
from nuclass_pipeline.summary.point_images import MAX_FIELD_UM, MAX_IMAGES, choose_images, summarize_point_images


def cells_of(image, labels, case=None, slide="s", place=(50.0, 60.0), spread=10.0):
    """Cells on a diagonal, so that the square around them has the length of their extent and two margins."""
    offsets = np.linspace(0, spread, len(labels))
    frame = pd.DataFrame({"slide": slide, "image": image, "case": case or image, "label": labels})
    return frame.assign(x_um=place[0] + offsets, y_um=place[1] + offsets)


def test_images_with_most_cells_of_their_rarest_class_are_chosen_one_of_each_case():
    images = {
        "a": ["A"] * 9 + ["B"] * 1,
        "b": ["A"] * 3 + ["B"] * 3,
        "c": ["A"] * 4 + ["B"] * 2,
        "d": ["A"] * 50,
        "e": ["A"] * 2 + ["B"] * 2,
        "f": ["A"] * 2 + ["B"] * 3,
        "g": ["Unresolved"] * 70,
    }
    # f is of the case of b, which goes first.
    listed = [cells_of(name, labels, case="one" if name in "bf" else None) for name, labels in images.items()]
    chosen = choose_images(pd.concat(listed))
    assert list(chosen["image"]) == ["b", "c", "e", "a"]
    assert len(chosen) == MAX_IMAGES
    # Without a, d is left, which lacks a class; an image without a label is never shown.
    assert list(choose_images(pd.concat(listed[1:]))["image"]) == ["b", "c", "e", "d"]
    assert list(choose_images(pd.concat([listed[3], listed[6]]))["image"]) == ["d"]


def test_only_cells_in_the_middle_of_a_large_image_count():
    wide = cells_of("wide", ["B", *["A"] * 9, "B"], spread=300.0)
    small = cells_of("small", ["A", "B"])
    chosen = choose_images(pd.concat([wide, small])).set_index("image")
    assert list(chosen.index) == ["small", "wide"]
    assert chosen.loc["wide", ["x_um", "y_um", "field_um"]].tolist() == [200 - MAX_FIELD_UM / 2, 210 - MAX_FIELD_UM / 2, MAX_FIELD_UM]
    assert chosen.loc["small", ["x_um", "y_um", "field_um"]].tolist() == [42.0, 52.0, 26.0]


def test_equal_images_are_taken_by_slide_and_name():
    frame = pd.concat([cells_of(name, ["A", "B"], slide=slide) for slide, name in (("t", "a"), ("s", "b"), ("s", "a"))])
    frame["case"] = frame["slide"] + frame["image"]
    assert choose_images(frame)[["slide", "image"]].to_numpy().tolist() == [["s", "a"], ["s", "b"], ["t", "a"]]


def write_slide(folder, frame, corner_px):
    """Write a slide at 0.25 µm/px with a dark square of 4 px at `corner_px`, (x, y)."""
    folder.mkdir()
    pixels = np.full((600, 800, 3), 230, np.uint8)
    x, y = corner_px
    pixels[y : y + 4, x : x + 4] = 0
    with h5py.File(folder / "image.h5", "w") as file:
        file.create_dataset("level_0", data=pixels).attrs["mpp"] = 0.25
        file.attrs.update(mpp=0.25, fill=255)
    ids = [f"c{number}" for number in range(len(frame))]
    absent = {"cell_area_um2": np.nan, "nucleus_area_um2": np.nan, "transcripts": 0, "nucleus_transcripts": np.nan, "controls": 0}
    cells = frame[["x_um", "y_um", "case", "image"]].assign(cell_id=ids, **absent)
    write_table(cells, folder / "cells.parquet", CELLS)
    write_table(provided_labels(ids, list(frame["label"])), folder / "labels.parquet", LABELS)


def summarize(folder, slides):
    names = {"images": "image.h5", "cells": "cells.parquet", "labels": "labels.parquet"}
    inputs = {name: [folder / slide / file for slide in slides] for name, file in names.items()}
    summarize_point_images(**inputs, slides=slides, point_images=folder / "p.parquet")
    return read_table(folder / "p.parquet", POINT_IMAGES)


def test_the_picture_is_cut_where_the_table_says(tmp_path):
    write_slide(tmp_path / "one", cells_of("a", ["T_Cell", "B_Cell", "T_Cell", "B_Cell"]), (0, 0))
    # The square begins at (42.1, 52.1) µm, so at pixel (168, 208).
    write_slide(tmp_path / "two", cells_of("b", ["T_Cell", "B_Cell"], place=(50.1, 60.1)), (168 + 20, 208 + 12))
    table = summarize(tmp_path, ["one", "two"])
    assert table[["slide", "image", "case"]].to_numpy().tolist() == [["one", "a", "a"], ["two", "b", "b"]]
    row = table.iloc[1]
    assert row[["x_um", "y_um", "field_um"]].tolist() == [42.0, 52.0, 26.0]
    picture = np.asarray(Image.open(io.BytesIO(row["picture"])).convert("L"))
    assert picture.shape == (104, 104)
    dark = np.argwhere(picture < 100)
    assert dark.min(axis=0).tolist() == pytest.approx([12, 20], abs=1)
    assert dark.max(axis=0).tolist() == pytest.approx([15, 23], abs=1)


def test_the_square_is_filled_beyond_the_slide_and_slides_without_labels_have_no_row(tmp_path):
    write_slide(tmp_path / "edge", cells_of("a", ["T_Cell", "B_Cell"], place=(0.0, 60.0)), (0, 0))
    row = summarize(tmp_path, ["edge"]).iloc[0]
    assert row["x_um"] == -8.0
    picture = np.asarray(Image.open(io.BytesIO(row["picture"])).convert("L"))
    # 8 µm are 32 px.
    assert picture[:, :28].min() > 250
    assert picture[:, 36:].max() < 240
    write_slide(tmp_path / "none", cells_of("a", ["Unresolved", "Unresolved"]), (0, 0))
    assert summarize(tmp_path, ["none"]).empty
