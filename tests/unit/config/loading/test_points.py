"""The two tables of images with points are refused by line and column, and the remedies work."""

import pytest

from nuclass_pipeline.config.loading.points import mpp_problem, picture_files, read_images, read_points
from nuclass_pipeline.errors import UserError

IMAGES = "image,file,mpp,case\none,one.png,0.5,a\n"
CONTEXT = "image,file,mpp,case,context_file,context_mpp,context_x_px,context_y_px\n"


@pytest.fixture
def folder(tmp_path):
    for name in ("one.png", "two.png"):
        (tmp_path / name).touch()
    (tmp_path / "images.csv").write_text(IMAGES)
    (tmp_path / "points.csv").write_text("image,x_px,y_px,class\none,1,2,T\n")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,file,mpp\none,one.png,0.5\n", "case"),
        ("image,file,mpp,case\n", "images.csv: image: the table has no rows. Add a row for each image."),
        ("image,file,mpp,case\none,on.png,0.5,a\n", "line 2, file: on.png is not a file, did you mean 'one.png'?"),
        (
            "image,file,mpp,case\none,one.png,0,a\n",
            "line 2, mpp: 0 µm is not the pixel size of a microscope. Enter µm per px, from 0.05 to 4.",
        ),
        ("image,file,mpp,case\none,one.png,-0.5,a\n", "line 2, mpp: -0.5 µm is not the pixel size"),
        ("image,file,mpp,case\none,one.png,500,a\n", "line 2, mpp: 500 µm is not the pixel size"),
        ("image,file,mpp,case\none,one.png,40x,a\n", "line 2, mpp: '40x' is not a number"),
        ("image,file,mpp,case\none,one.png,inf,a\n", "line 2, mpp: 'inf' is not a number"),
        ("image,file,mpp,case\none,one.png,,a\n", "line 2, mpp: '' is not a number"),
        ("image,file,mpp,case\none,one.png,0.5,\n", "line 2, case: it is empty"),
        ("image,file,mpp,case\n,one.png,0.5,a\n", "line 2, image: it is empty"),
        ("image,file,mpp,case\none,one.png,0.5,a\none,two.png,0.5,a\n", "line 3, image: 'one' has two rows. Remove one of them."),
        (
            CONTEXT + "one,one.png,0.5,a,two.png,,1,2\n",
            "line 2, context_mpp: it is empty, and context_file is given. Fill in context_file,",
        ),
        (CONTEXT + "one,one.png,0.5,a,tow.png,1,1,2\n", "line 2, context_file: tow.png is not a file, did you mean 'two.png'?"),
        (CONTEXT + "one,one.png,0.5,a,two.png,1,left,2\n", "line 2, context_x_px: 'left' is not a number"),
    ],
)
def test_a_wrong_table_of_images_is_one_line(folder, text, message):
    (folder / "images.csv").write_text(text)
    with pytest.raises(UserError) as caught:
        read_images(folder)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,x_px,y_px\none,1,2\n", "class"),
        ("image,x_px,y_px,class\n", "points.csv: image: the table has no rows. Add a row for each cell."),
        ("image,x_px,y_px,class\nonee,1,2,T\n", "line 2, image: 'onee' is not in images.csv, did you mean 'one'?"),
        ("image,x_px,y_px,class\none,nan,2,T\n", "line 2, x_px: 'nan' is not a number"),
        ("image,x_px,y_px,class\none,1,,T\n", "line 2, y_px: '' is not a number"),
        ("image,x_px,y_px,class\none,1,2,\n", "line 2, class: it is empty"),
        ("image,x_px,y_px,class,cell_id\none,1,2,T,c\none,3,4,T,c\n", "cell_id: 'c' has two rows. Give each cell its own id"),
    ],
)
def test_a_wrong_table_of_points_is_one_line(folder, text, message):
    (folder / "points.csv").write_text(text)
    with pytest.raises(UserError) as caught:
        read_points(folder, read_images(folder))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_cells_without_an_id_are_numbered_and_places_outside_are_kept(folder):
    (folder / "points.csv").write_text("image,x_px,y_px,class\none,1,2,T\none,-1,2,T\n")
    found = read_points(folder, read_images(folder))
    assert [point.cell_id for point in found] == ["one-1", "one-2"] and found[1].x_px == -1


def test_pictures_are_all_files_of_all_images(folder):
    (folder / "images.csv").write_text(CONTEXT + "one,one.png,0.5,a,two.png,1,1,2\n")
    assert picture_files(folder) == [str(folder / "one.png"), str(folder / "two.png")]


@pytest.mark.parametrize(("mpp", "is_wrong"), [(0.049, True), (0.05, False), (4, False), (4.1, True)])
def test_pixel_sizes_are_those_of_microscopes(mpp, is_wrong):
    assert bool(mpp_problem(mpp)) is is_wrong
