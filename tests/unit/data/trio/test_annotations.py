"""What annotations say of cells: class, place, pixel size and tissue; a contradiction is one line."""

import json

import numpy as np
import pytest

from nuclass_pipeline.data.trio.annotations import CLASS_FIELDS, agree_mpp, read_annotations
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_table, read_warnings
from nuclass_pipeline.schemas import CELLS, LABELS
from nuclass_pipeline.vocabulary import ORGANS, organs_named
from tests.unit.data.trio.sets import IDS, enter, make_records, write_set


def read(tmp_path, records, organ="lung"):
    (tmp_path / "annotations.json").write_text(json.dumps(records))
    return read_annotations(tmp_path / "annotations.json", organ)


@pytest.mark.parametrize("number", range(len(CLASS_FIELDS)))
def test_the_first_field_that_holds_classes_is_read(tmp_path, number):
    field, later = CLASS_FIELDS[number], CLASS_FIELDS[number + 1 :]
    records = {cell: {field: "B_Cell", **dict.fromkeys(later, "T_Cell"), "centroid_x": 1, "centroid_y": 2} for cell in IDS}
    found = read(tmp_path, records)
    assert (found.ids, found.raw) == (list(IDS), ["B_Cell"] * len(IDS))
    assert found.warnings == ([f"no record has class_id, so the classes are those of {field}"] if number else [])


def test_the_field_of_the_classes_is_in_the_warnings_of_the_slide(tmp_path):
    records = make_records()
    for record in records.values():
        record["cell_type"] = record.pop("class_id")
    slide = enter(write_set(tmp_path / "set", records=records), tmp_path / "slide")
    assert read_warnings(slide / "cells.parquet") == ["no record has class_id, so the classes are those of cell_type"]
    assert set(read_table(slide / "labels.parquet", LABELS)["label"]) == {"T_Cell"}


def test_labels_without_a_class_are_in_the_warnings_of_the_labels(tmp_path):
    slide = enter(write_set(tmp_path / "set", records=make_records(class_id="CAF")), tmp_path / "slide")
    assert read_warnings(slide / "labels.parquet") == ["5 cells of 'CAF' are Unresolved: not in the label map"]


def test_ids_keep_their_zeros_in_both_encodings(tmp_path):
    for encoding in ("merged", "per-key"):
        slide = enter(write_set(tmp_path / encoding, encoding), tmp_path / f"slide-{encoding}")
        assert read_table(slide / "cells.parquet", CELLS)["cell_id"].tolist() == list(IDS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_id": None}, "class_id: is missing for cell 001. Add it, or remove the cell."),
        ({"micron_per_pixel": 0.5}, "micron_per_pixel: is 0.25 for cell aaaa-1, and 0.5 for cell 001. Correct it, or make a patch dataset"),
        ({"micron_per_pixel": "fine"}, "micron_per_pixel: 'fine' is not a pixel size. Enter µm per px, from 0.05 to 4."),
        ({"micron_per_pixel": 250}, "micron_per_pixel: 250 µm is not the pixel size of a microscope. Enter µm per px"),
        ({"micron_per_pixel": True}, "micron_per_pixel: True is not a pixel size."),
        (
            {"tissue_type": " Human Colon Cancer FFPE"},
            "tissue_type: 'human colon cancer ffpe' of 1 cells is of the colon, and the",
        ),
    ],
)
def test_a_wrong_cell_is_one_line(tmp_path, change, message):
    records = make_records()
    records["001"] = {key: value for key, value in (records["001"] | change).items() if value is not None}
    with pytest.raises(UserError) as refusal:
        read(tmp_path, records)
    assert message in str(refusal.value)


def test_other_records_are_one_line(tmp_path):
    for records, message in (({"": {}}, "a cell has an empty id"), ({"a": 3}, "annotations.json: a: is not an object of fields")):
        with pytest.raises(UserError, match=message):
            read(tmp_path, records)


@pytest.mark.parametrize(
    ("tissues", "organ", "warnings"),
    [
        (["Human Colon Cancer FFPE"], "colon", []),
        (["colorectal carcinoma", "hColon"], "colon", []),
        (["Liver metastasis of colon cancer"], "colon", []),
        ([None, ""], "colon", []),
        (["FFPE"], "colon", ["the tissue 'ffpe' of 1 cells names no known organ; colon is used"]),
        (["Human Colon", "human colon "], "other", ["the tissue of all cells is of the colon, and the organ of the slide sheet is other"]),
        (["colon", "Tonsil"], "other", []),
        (["colon", "ovarian"], "other", []),
    ],
)
def test_the_tissue_is_compared_with_the_organ_of_the_sheet(tmp_path, tissues, organ, warnings):
    records = make_records(IDS[: len(tissues)])
    for record, tissue in zip(records.values(), tissues, strict=True):
        record["tissue_type"] = tissue
    assert read(tmp_path, records, organ).warnings == warnings


def test_another_organ_names_its_remedy(tmp_path):
    with pytest.raises(UserError, match=r"Set the organ of the slide to ovary in the slide sheet, or correct the annotations\."):
        read(tmp_path, make_records(tissue_type="Human Ovarian Cancer (FFPE)"), "pancreas")


def test_each_organ_is_known_by_its_name_and_no_word_means_two():
    assert [organs_named(f"Human {organ} FFPE") for organ in ORGANS] == [{organ} for organ in ORGANS]
    words = ["mammary", "colorectal", "cardiac", "renal", "hepatic", "pulmonary", "ovarian", "pancreatic"]
    assert [organs_named(word) for word in words] == [{organ} for organ in ORGANS]
    assert organs_named("heartburn, delivery and lunge") == set()


def test_centroids_are_in_pixels_of_the_stated_size(tmp_path):
    records = make_records(micron_per_pixel=0.5)
    slide = enter(write_set(tmp_path / "set", records=records), tmp_path / "slide")
    table = read_table(slide / "cells.parquet", CELLS)
    np.testing.assert_allclose(table["x_um"], 50.0 * np.arange(len(IDS)))
    assert set(table["y_um"]) == {25.0}


def test_pixel_sizes_agree_or_are_refused(tmp_path):
    one, other = tmp_path / "annotations.json", tmp_path / "patches.h5"
    assert agree_mpp([(one, "m", None), (other, "mpp", None)], 0.25) == (
        0.25,
        ["no pixel size is stated, so that of the run, 0.25 µm, is assumed"],
    )
    assert agree_mpp([(one, "m", 0.25), (other, "mpp", float(np.float32(0.25)))], 0.25) == (0.25, [])
    assert agree_mpp([(one, "m", 0.5)], 0.25) == (
        0.5,
        ["the patches have a pixel size of 0.5 µm and show less detail than 0.25 µm, that of the run"],
    )
    with pytest.raises(UserError, match=r"patches.h5: mpp: is 0.5 µm, and 0.25 µm in annotations.json. Correct the one that is wrong."):
        agree_mpp([(one, "m", 0.25), (other, "mpp", 0.5)], 0.25)
