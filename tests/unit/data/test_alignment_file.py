"""Alignment files as people have them: from Excel, with other headers, in the archive of Xenium Explorer."""

import zipfile

import numpy as np
import pytest

from nuclass_pipeline.data.alignment import read_alignment
from nuclass_pipeline.data.alignment_file import MAX_FILE_MB, read_alignment_file
from nuclass_pipeline.errors import UserError

MATRIX = np.array([[0.5, -1.25, 807.5], [1.25, 0.5, -73.25], [0, 0, 1]])
MOVING = np.array([[0, 0], [900.5, 0], [0, 700], [900, 700.25], [300, 500]])
FIXED = MOVING @ MATRIX[:2, :2].T + MATRIX[:2, 2]
NAMES = ("fixedX", "fixedY", "alignmentX", "alignmentY")


def text(rows, separator=","):
    return "\n".join(separator.join(map(str, row)) for row in rows) + "\n"


PLAIN = text(MATRIX)
GERMAN = text(MATRIX, ";").replace(".", ",")
KEYPOINTS = text([NAMES, *np.column_stack([FIXED, MOVING])])
MATRICES = {
    "plain": PLAIN.encode(),
    "byte-order mark": PLAIN.encode("utf-8-sig"),
    "UTF-16": PLAIN.encode("utf-16"),
    "UTF-16 without mark": PLAIN.encode("utf-16-le"),
    "old Macintosh": PLAIN.replace("\n", "\r").encode(),
    "Windows": PLAIN.replace("\n", "\r\n").encode(),
    "German Excel": GERMAN.encode(),
    "German Excel, UTF-16, tabs": GERMAN.replace(";", "\t").encode("utf-16"),
    "semicolons": text(MATRIX, ";").encode(),
    "quoted": ("\n".join(",".join(f'"{value}"' for value in row) for row in MATRIX)).encode(),
    "quoted decimal commas": ("\n".join(",".join(f'"{value}"' for value in row) for row in MATRIX)).replace(".", ",").encode(),
    "empty lines and blanks": PLAIN.replace(",", " , ").replace("\n", "\n\n").encode(),
    "exponents": "\n".join(",".join(f"{value:.9e}" for value in row) for row in MATRIX).encode(),
}


@pytest.mark.parametrize("name", MATRICES)
def test_a_matrix_is_read_however_it_was_saved(tmp_path, name):
    path = tmp_path / "alignment.csv"
    path.write_bytes(MATRICES[name])
    assert read_alignment_file(path).matrix == pytest.approx(MATRIX)


ORDER = [3, 0, 2, 1]
HEADERS = {
    "as exported": (NAMES, np.column_stack([FIXED, MOVING])),
    "small letters": ([name.lower() for name in NAMES], np.column_stack([FIXED, MOVING])),
    "capitals and underscores": (["FIXED_X", "FIXED_Y", "ALIGNMENT_X", "ALIGNMENT_Y"], np.column_stack([FIXED, MOVING])),
    "another order": ([NAMES[i] for i in ORDER], np.column_stack([FIXED, MOVING])[:, ORDER]),
    "more columns": (["id", *NAMES, "note"], [[f"p{i}", *row, "good"] for i, row in enumerate(np.column_stack([FIXED, MOVING]))]),
}


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("name", HEADERS)
def test_keypoints_are_found_by_their_names(tmp_path, name, separator):
    header, rows = HEADERS[name]
    path = tmp_path / "keypoints.csv"
    path.write_text(text([header, *rows], separator))
    assert read_alignment(path, 0.2125).matrix == pytest.approx(MATRIX)


def archive(path, members):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


@pytest.mark.parametrize(
    "members",
    [
        {"matrix.csv": PLAIN, "keypoints.csv": KEYPOINTS, "selection.csv": "X,Y\n1,2\n"},
        {"slide/matrix.csv": PLAIN, "__MACOSX/slide/._matrix.csv": "x"},
        {"slide_Keypoints.CSV": KEYPOINTS},
        {"matrix.csv": GERMAN},
    ],
)
def test_the_archive_of_xenium_explorer_is_read_as_it_is(tmp_path, members):
    alignment = read_alignment(archive(tmp_path / "files.zip", members), 0.2125)
    assert alignment.matrix == pytest.approx(MATRIX)
    assert alignment.worst_um == pytest.approx(0, abs=1e-9)


def test_keypoints_that_contradict_the_matrix_of_their_archive_are_measured(tmp_path):
    other = text([NAMES, *np.column_stack([FIXED + np.array([400, 0]), MOVING])])
    alignment = read_alignment(archive(tmp_path / "files.zip", {"matrix.csv": PLAIN, "keypoints.csv": other}), 0.2125)
    assert alignment.worst_um == pytest.approx(85)


REFUSED = {
    "no matrix in it": ({"readme.txt": "x"}, "file", "the archive has no matrix.csv and no keypoints.csv; it holds 'readme.txt'"),
    "nothing in it": ({}, "file", "it holds nothing"),
    "two of them": ({"a/matrix.csv": PLAIN, "b/matrix.csv": PLAIN}, "matrix", "the archive holds 'a/matrix.csv' and 'b/matrix.csv'"),
    "a broken one": ({"matrix.csv": "1,2\n"}, "matrix.csv, line 1", "has 2 values, not 3"),
    "a bomb": ({"matrix.csv": "0" * (MAX_FILE_MB * 10**6 + 1)}, "matrix.csv, file", "larger than 1 MB"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_archive_without_one_alignment_is_refused_by_its_own_name(tmp_path, name):
    members, field, problem = REFUSED[name]
    path = archive(tmp_path / "files.zip", members)
    with pytest.raises(UserError) as refusal:
        read_alignment_file(path)
    assert (refusal.value.file, refusal.value.field) == (str(path), field)
    assert problem in refusal.value.problem


WRONG = {
    "a column missing": ("fixedX,fixedY,alignmentX\n1,2,3\n", "alignmentY", "the columns are fixedX, fixedY, alignmentX"),
    "thousands": ("1.5;0;1,000.5\n0;1.5;0\n0;0;1\n", "line 1", "'1,000.5'"),
    "decimal commas between commas": ("0,5,1,5,3\n0,1,1\n0,0,1\n", "line 1", "has 5 values, not 3"),
    "not finite": ("1,0,0\n0,nan,0\n0,0,1\n", "line 2", "nan is not finite"),
    "a short keypoint": ("fixedX,fixedY,alignmentX,alignmentY\n1,2,3\n", "line 2", "has 3 values for 4 columns"),
    "a perspective": ("1,0,0\n0,1,0\n0.001,0,1\n", "matrix", "last ['0.001', '0', '1'], not a 3 × 3 matrix"),
    "a workbook": ("PK\x03\x04" + "x" * 99, "file", "a workbook"),
    "a pipe in it": ("1|0|0\n0|1|0\n0|0|1\n", "line 1", "has 1 values, not 3"),
}


@pytest.mark.parametrize("name", WRONG)
def test_another_text_is_refused_with_its_line(tmp_path, name):
    content, field, problem = WRONG[name]
    path = tmp_path / "alignment.csv"
    path.write_text(content)
    with pytest.raises(UserError) as refusal:
        read_alignment_file(path)
    assert refusal.value.field == field
    assert problem in refusal.value.problem
