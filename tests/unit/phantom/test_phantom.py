"""Whole slides: determinism, classes, and the one mistake a user can make."""

import pytest

from nuclass_pipeline.errors import UserError
from tests.unit.phantom.slides import CLASSES, CONFIG, make


def test_same_seed_same_bytes_and_other_seed_other_slide(slides, tmp_path):
    again, other = make(tmp_path / "again", "lung", 5), make(tmp_path / "other", "lung", 6)
    first = slides["lung"]
    files = sorted(path.relative_to(first.folder) for path in first.folder.rglob("*") if path.is_file())
    assert len(files) == 11
    for name in files:
        same = (first.folder / name).read_bytes() == (again.folder / name).read_bytes()
        assert same, name
        if name.suffix not in (".json", ".csv"):
            assert (first.folder / name).read_bytes() != (other.folder / name).read_bytes(), name


def test_every_class_is_present_and_no_other(slide):
    counts = slide.truth["label"].value_counts()
    assert sorted(counts.index) == CLASSES[slide.organ].split()
    assert counts.min() >= 5
    assert counts.sum() == pytest.approx(CONFIG.cells, rel=0.05)


def test_an_unknown_organ_is_an_error_of_one_line(tmp_path):
    with pytest.raises(UserError, match=r"'brain' has no phantom. Use one of lung, pancreas\.$") as caught:
        make(tmp_path, "brain", 1)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.*"))
