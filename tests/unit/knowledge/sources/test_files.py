"""The checksum and licence of a download are logged; errors name the problem and where to download the file."""

import gzip
import hashlib

import pandas as pd
import pytest

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.knowledge.sources.files import Origin, read_download, to_numbers

ORIGIN = Origin("the list", "https://example.org/list", "CC0", "Nobody 2020")


@pytest.mark.parametrize(("name", "text"), [("a.csv", "x,y\n1, NA \n"), ("a.tsv", "x\ty\n1\tNA\n"), ("a.txt", "x\ty\n1\tNA\n")])
@pytest.mark.parametrize("packed", [False, True])
def test_text_is_read_unchanged_and_its_checksum_and_licence_are_logged(tmp_path, caplog, name, text, packed):
    path = tmp_path / (name + ".gz" * packed)
    path.write_bytes(gzip.compress(text.encode(), mtime=0) if packed else text.encode())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with caplog.at_level("INFO"):
        frame, release = read_download(path, ORIGIN, ["x", "y"])
    assert frame.to_dict("list") == {"x": ["1"], "y": ["NA"]}
    assert release == f"{path.name} {digest[:12]}"
    assert f"sha256 {digest}; licence: CC0; cite Nobody 2020" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("none.csv", None, "it does not exist. Download the list from https://example.org/list"),
        ("a.csv", b"x,y\n1,2\n", "z: the column is missing; found x, y. The original has x, z."),
        ("a.csv", b"x,z\n", "rows: the table has none"),
        ("a.csv", b"", "cannot be read"),
        ("a.csv", b"x,z\n\x81\x8d,1\n", "line 2: not text in UTF-8, UTF-16 or Windows-1252"),
        ("a.csv", b'x,z\n"1,2\n', "cannot be read"),
        ("a.csv.gz", b"x,z\n1,2\n", "cannot be read"),
        ("a.csv.gz", gzip.compress(b"x,z\n" + b"1,2\n" * 999, mtime=0)[:-12], "cannot be read"),
        ("a.xlsx", b"x,z\n1,2\n", "cannot be read|needs openpyxl"),
        ("a.json", b"{}", "the ending .json is not supported. Save it as .csv, .tsv, .txt or .xlsx"),
    ],
)
def test_errors_come_with_the_remedy(tmp_path, name, content, problem):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=problem) as caught:
        read_download(path, ORIGIN, ["x", "z"])
    assert "\n" not in str(caught.value)


def test_numbers_may_be_missing_but_not_wrong():
    frame = pd.DataFrame({"x": ["0.5", "", "NA", "1"]})
    assert to_numbers(frame, "x", "a.csv", 1).fillna(-1).tolist() == [0.5, -1, -1, 1]
    for wrong in ("-1", "2", "inf", "nan", "1,5"):
        with pytest.raises(UserError, match=r"x, line 3: '.*' is not a number from 0 to 1"):
            to_numbers(pd.DataFrame({"x": ["1", wrong]}), "x", "a.csv", 1)
