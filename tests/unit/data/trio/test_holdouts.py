"""The hold-outs of the public reference as slides; a mistake is one line."""

import pytest

from nuclass_pipeline.data.trio.holdouts import add_slides, read_holdouts
from nuclass_pipeline.errors import UserError
from tests.unit.data.trio.holdouts import HOLDOUTS, write_holdouts


@pytest.mark.parametrize("listed", [False, True])
def test_an_object_and_a_list_are_the_same_slides(tmp_path, listed):
    content = [{"name": name, **record} for name, record in HOLDOUTS.items()] if listed else HOLDOUTS
    slides = read_holdouts(write_holdouts(tmp_path, content))
    assert [(name, slide.slide, slide.kind, slide.organ, slide.bundle) for name, slide in slides.items()] == [
        (name, name, "trio", name, str(tmp_path / name)) for name in HOLDOUTS
    ]


def one(**changes):
    record = {key: value for key, value in (HOLDOUTS["lung"] | changes).items() if value is not None}
    return {"a": record}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (one(mode="lizard_grouped"), "a, mode: is 'lizard_grouped'. Only xenium_exact is read: remove the entry, or correct it."),
        (one(tissue="lungs"), "a, tissue: 'lungs' is unknown, did you mean 'lung'? Use one of breast, colon,"),
        (one(tissue=None), "a, tissue: is missing or is not text. Fill it in."),
        (one(root=3), "a, root: is missing or is not text."),
        (one(root="{root}/nowhere"), "nowhere holds no annotations.json. Correct the path."),
        (one(root="{root}/../$HOME"), "a, root: "),
        ([HOLDOUTS["lung"]], "entry 1, name: is missing. Add it."),
        ([3], "entry 1: is not an object."),
        (7, "file: is neither an object nor a list."),
        ({}, "file: it names no hold-out."),
        ({"A b": HOLDOUTS["lung"], "a-b": HOLDOUTS["lung"]}, "a-b: 'A b' and 'a-b' are both slide 'a-b'."),
        ({"µ": HOLDOUTS["lung"]}, "µ, slide: "),
    ],
)
def test_a_wrong_holdout_is_one_line(tmp_path, content, message):
    with pytest.raises(UserError) as refusal:
        read_holdouts(write_holdouts(tmp_path, content))
    assert message in str(refusal.value)


def test_a_holdout_with_a_split_below_it_names_the_folders(tmp_path):
    file = write_holdouts(tmp_path, one(root="{root}/whole"))
    (tmp_path / "whole/test").mkdir(parents=True)
    (tmp_path / "whole/test/annotations.json").write_text("{}")
    with pytest.raises(UserError, match=r"a, root: .*/whole holds no annotations.json; a folder in it does. Name that folder."):
        read_holdouts(file)


def test_a_sheet_without_tabs_is_one_line(tmp_path):
    sheet = tmp_path / "slides.csv"
    sheet.write_text("slide,kind,organ,bundle\nmine,trio,lung,x\n")
    slides = list(read_holdouts(write_holdouts(tmp_path, HOLDOUTS)).values())
    with pytest.raises(UserError, match=r"slides.csv: slide: the column is missing, or tabs are not what separates columns."):
        add_slides(sheet, slides)
