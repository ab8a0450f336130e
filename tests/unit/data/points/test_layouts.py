"""Public layouts are read with their places, classes, cases and pixel sizes."""

from collections import Counter

import pytest

from nuclass_pipeline.data.points.layouts import LAYOUTS, name_class, read_m2c, read_nucls, read_ocelot, read_point_table
from nuclass_pipeline.errors import UserError
from tests.unit.data.points.sets import make_m2c, make_nucls, make_ocelot, make_table


@pytest.mark.parametrize("end", [".txt", "_gt_class_coords.txt"])
def test_m2c_gives_y_before_x(tmp_path, end):
    found = read_m2c(make_m2c(tmp_path, 3, end))
    assert [image.case for image in found.images.values()] == ["TCGA-A1-0000", "TCGA-A1-0001", "TCGA-A1-0002"]
    assert {image.mpp for image in found.images.values()} == {0.5}
    first = found.points[0]
    assert (first.x_px, first.y_px, found.classes[first.raw]) == (20, 10, "Lymphocyte")
    assert list(found.colors) == ["Lymphocyte", "Tumor_or_Epithelial", "Stromal"]
    assert read_m2c(tmp_path, 0.25).images[first.image].mpp == 0.25


@pytest.mark.parametrize("end", ["", ".png", "_gt_class_coords.txt"])
def test_the_test_set_of_the_publisher_is_left_out(tmp_path, end):
    names = list(read_m2c(make_m2c(tmp_path, 4)).images)
    (tmp_path / "brca_ds_test.txt").write_text(f"{names[1]}{end}\nimages/{names[3]}{end}\n\n")
    found = read_m2c(tmp_path)
    assert list(found.images) == [names[0], names[2]]
    assert {point.image for point in found.points} == set(found.images)
    assert found.notes[0] == "2 images are left out, because brca_ds_test.txt lists them as the publisher's test set"


def test_a_listed_name_is_not_that_of_an_image_with_a_shorter_name(tmp_path):
    make_m2c(tmp_path, 3)
    for folder, end in (("images", ".png"), ("labels", ".txt")):
        for number, path in enumerate(sorted((tmp_path / folder).iterdir())):
            path.rename(path.with_name(f"{(1, 10, 2)[number]}{end}"))
    (tmp_path / "brca_ds_test.txt").write_text("10.png\r\nimages\\2.png")
    assert list(read_m2c(tmp_path).images) == ["1"]


@pytest.mark.parametrize("text", ["", "others.png\n"])
def test_a_test_set_that_lists_no_image_is_said(tmp_path, text):
    make_m2c(tmp_path, 3)
    (tmp_path / "brca_ds_test.txt").write_text(text)
    found = read_m2c(tmp_path)
    assert len(found.images) == 3
    assert found.notes[0].endswith("brca_ds_test.txt lists none of the 3 images, so none is left out as the publisher's test set")


def test_a_test_set_that_lists_all_images_is_refused(tmp_path):
    names = list(read_m2c(make_m2c(tmp_path, 3)).images)
    (tmp_path / "brca_ds_test.txt").write_text("\n".join(names))
    with pytest.raises(UserError, match=r"brca_ds_test\.txt: images: it lists all 3 images .* Add the other images of the set"):
        read_m2c(tmp_path)


def test_an_image_without_labels_is_left_out_and_counted(tmp_path):
    make_m2c(tmp_path, 3)
    next((tmp_path / "labels").iterdir()).unlink()
    found = read_m2c(tmp_path)
    assert len(found.images) == 2 and found.notes[0].startswith("1 images have no labels in")


def test_ocelot_places_the_cell_patch_in_the_tissue(tmp_path):
    found = read_ocelot(make_ocelot(tmp_path))
    image = found.images["001"]
    assert image.context_xy_px == (64.0, 0.0) and (image.mpp, image.context_mpp) == (0.2, 0.8)
    assert image.case == "TCGA-A1-0001" and Counter(found.groups.values()) == {"kidney": 3, "bladder": 3}
    assert len(found.points) == 10 and {found.classes[point.raw] for point in found.points} == {"Tumor", "Other"}
    assert found.organ == "other"


def test_a_damaged_metadata_file_is_one_line(tmp_path):
    make_ocelot(tmp_path)
    (tmp_path / "metadata.json").write_text('{"sample_pairs": {"001": {"cell": {}}}}')
    with pytest.raises(UserError, match="pair 001 lacks a field, or it is not a number"):
        read_ocelot(tmp_path)


def test_nucls_takes_its_classes_from_the_map(tmp_path):
    found = read_nucls(make_nucls(tmp_path))
    assert found.classes == {"0": "tumor_any", "1": "sTIL"} and found.images["train_0"].mpp == 0.2
    assert found.images["train_0"].case == "train_0"


def test_a_table_gives_names_of_the_vocabulary_and_of_its_own(tmp_path):
    found = read_point_table(make_table(tmp_path))
    assert found.classes == {"T Cell": "T_Cell", "blue thing": "blue_thing"} and list(found.colors) == ["blue_thing"]
    assert len(found.images) == 6 and found.images["in_0"].case == "case-0"


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("image,x_px,y_px,class", "in/0.png,1,2,a", "line 2, mpp: the pixel size is not given. Add a column mpp, or give `--mpp`."),
        ("image,x_px,y_px,class,mpp", "in/0.png,1,2,a,0", "line 2, mpp: 0 µm is not the pixel size of a microscope"),
        ("image,x_px,y_px,class,mpp", "in/0.png,1,2,a,-0.5", "line 2, mpp: -0.5 µm is not the pixel size of a microscope"),
        ("image,x_px,y_px,class,mpp", "in/0.png,1,2,a,250", "line 2, mpp: 250 µm is not the pixel size"),
        ("image,x_px,y_px,class,mpp", "in/0.pgn,1,2,a,0.5", "line 2, image: in/0.pgn is not a file, did you mean '0.png'?"),
        ("image,x_px,y_px,class,mpp", "in/0.png,1,2,,0.5", "line 2, class: it is empty"),
        ("image,x_px,y_px,class,mpp", "in/0.png,nan,2,a,0.5", "line 2, x_px: 'nan' is not a number"),
        ("image,x_px,y_px,class,mpp", "in/0.png,1,2,細胞,0.5", "class: '細胞' cannot be the name of a class"),
        ("image,x,y,class,mpp", "in/0.png,1,2,a,0.5", "x_px"),
    ],
)
def test_a_wrong_row_is_one_line(tmp_path, header, row, message):
    with pytest.raises(UserError) as caught:
        read_point_table(make_table(tmp_path, [row], header))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_one_image_has_one_case_and_pixel_size(tmp_path):
    table = make_table(tmp_path, ["in/0.png,1,2,a,one,0.5", "in/0.png,3,4,a,two,0.5"])
    with pytest.raises(UserError, match=r"line 3, image: in/0\.png has another case, pixel size or path in an earlier line"):
        read_point_table(table)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1 2 7", "line 1, class: '7' is not a class of this layout. Use one of 1, 2, 3"),
        ("1 2", "line 1: it has 2 values, not 3. Write y, x, class in each line."),
        ("a 2 1", "line 1, y: 'a' is not a number"),
        ("1,2,1", "line 1: it has 1 values, not 3"),
    ],
)
def test_labels_of_another_layout_are_one_line(tmp_path, row, message):
    make_m2c(tmp_path, 1)
    next((tmp_path / "labels").iterdir()).write_text(row)
    with pytest.raises(UserError) as caught:
        read_m2c(tmp_path)
    assert message in str(caught.value)


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no file ends with \.png, \.jpg"):
        read_m2c(tmp_path)


@pytest.mark.parametrize(("raw", "name"), [("CD3+ T", "CD3+_T"), ("-x", "class_-x"), ("Unresolved", "class_Unresolved")])
def test_names_of_classes_fit_into_a_run_file(tmp_path, raw, name):
    assert name_class(tmp_path, raw) == name


@pytest.mark.parametrize(
    ("layout", "images", "cases", "cells"), [("m2c", 90, 83, 21780), ("ocelot", 68, 68, 10998), ("nucls", 10, 10, 398)]
)
def test_the_real_sets_are_read_whole(real_data, layout, images, cases, cells):
    if not (real_data / f"he_{layout}").is_dir():
        pytest.skip(f"no {layout}")
    found = LAYOUTS[layout](real_data / f"he_{layout}", None)
    assert (len(found.images), len({image.case for image in found.images.values()}), len(found.points)) == (images, cases, cells)
    assert len(found.empty_images) == {"m2c": 0, "ocelot": 2, "nucls": 0}[layout]
    assert not LAYOUTS[layout](real_data / f"he_{layout}", 0.25).notes
