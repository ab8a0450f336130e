"""One reader for every text file made by hand: any encoding, line end and separator, and one line for all that is not text."""

import gzip
import io
import logging
import os
import zipfile

import pytest

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_fields, read_rows, read_text

TEXT = "slide\tnote\nlung-1\tZürich, 0.25 µm\n"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1"])
def test_every_encoding_and_line_end_gives_the_same_text(tmp_path, caplog, encoding, end):
    (tmp_path / "t.tsv").write_bytes(TEXT.replace("\n", end).encode(encoding))
    with caplog.at_level(logging.WARNING):
        assert read_text(tmp_path / "t.tsv") == TEXT
    warned = "line 2 is not in UTF-8, so the file is read as Windows-1252: 'lung-1\\tZürich, 0.25 µm'" in caplog.text
    assert warned == (encoding in {"cp1252", "latin-1"})


def test_utf_16_with_a_mark_of_the_other_order_is_read(tmp_path):
    (tmp_path / "t.tsv").write_bytes(b"\xfe\xff" + TEXT.encode("utf-16-be"))
    assert read_text(tmp_path / "t.tsv") == TEXT


def workbook():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("xl/workbook.xml", "<x/>")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (workbook(), "it is a workbook (.xlsx or .ods), or another zip archive, not text. Save it as tab-separated text in UTF-8."),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "it is an Excel workbook (.xls), not text"),
        (b"{\\rtf1\\ansi slide}", "it is rich text (.rtf), not text"),
        (gzip.compress(TEXT.encode(), mtime=0), "it is compressed by gzip, not text"),
        (b"%PDF-1.7\n", "it is a PDF, not text"),
        (b"\x89HDF\r\n\x1a\n", "it is an HDF5 file, not text"),
        (b"PAR1" + bytes(9), "it is a Parquet file, not text"),
        (b"slide\tnote\nlung-1\t\x00\n", "line 2: not text: it has the control character 0x00"),
        (b"slide\tnote\x07\n", "line 1: not text: it has the control character 0x07"),
        (bytes(400), "not text"),
        (bytes(range(256)) * 20, "not text"),
        (b"a\tb\n\x81\x8d\t\x8f\n", "line 2: not text in UTF-8, UTF-16 or Windows-1252"),
        ("a\tαβ\n".encode() + b"b\t\xb5m\n", "line 2: it has UTF-8 characters, but this line is in another encoding"),
        (b"\xff\xfes\x00l", "not text in UTF-16 (truncated data)"),
    ],
)
def test_what_is_no_text_is_refused_in_one_line(tmp_path, data, message):
    (tmp_path / "t.tsv").write_bytes(data)
    with pytest.raises(UserError) as refused:
        read_rows(tmp_path / "t.tsv")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_pipe_a_device_and_a_folder_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path, problem in (
        (tmp_path / "pipe", "it is a pipe or a device, not a regular file"),
        (tmp_path / "link", "it is a pipe or a device, not a regular file"),
        ("/dev/zero", "it is a pipe or a device, not a regular file"),
        (tmp_path, "it is a folder, not a file"),
        (tmp_path / "none", "it does not exist"),
        (tmp_path / "pipe/below", "it does not exist"),
        (tmp_path / "loop", "it cannot be opened ("),
        (tmp_path / ("x" * 300), "it cannot be opened ("),
        ("a\0b", "it cannot be opened ("),
    ):
        with pytest.raises(UserError) as refused:
            read_text(path, missing="Put it there.")
        assert problem in str(refused.value)
        assert refused.value.remedy == "Put it there."


def test_a_file_that_is_too_large_is_refused_before_it_is_read_to_its_end(tmp_path):
    with (tmp_path / "t.tsv").open("wb") as stream:
        stream.truncate(10**12)
    with pytest.raises(UserError, match="file: it is larger than 16 MB"):
        read_text(tmp_path / "t.tsv")
    (tmp_path / "t.tsv").write_bytes(b"a" * 1_000_001)
    assert len(read_text(tmp_path / "t.tsv")) == 1_000_001
    with pytest.raises(UserError, match="larger than 1 MB"):
        read_text(tmp_path / "t.tsv", max_mb=1)


@pytest.mark.parametrize(
    "text",
    [
        "a\tb\n1\t2\n\n3\t4\n",
        "a;b\n1;2\n3;4\n",
        "a,b\n1,2\n3,4\n",
        "sep=;\na;b\n1;2\n3;4\n",
        '"sep=,"\na,b\n1,2\n3,4\n',
        '"a","b"\n"1", "2"\n"3","4"',
        "a\tb\t\t\n1\t2\t\t\t\n3\t4\n\t\t\n \t \n",
        "\n\n a \t b\n 1\t2 \n3\u00a0\t\ufeff4\n",
    ],
)
def test_every_separator_and_padding_gives_the_same_rows(tmp_path, text):
    (tmp_path / "t").write_text(text)
    table = read_rows(tmp_path / "t")
    assert table.columns == ("a", "b")
    assert [row for _, row in table.rows] == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


def test_rows_have_their_line_and_short_rows_are_filled(tmp_path):
    (tmp_path / "t").write_text('a\tb\tc\n\n1\n2\t"x\ty"\tz\n')
    assert read_rows(tmp_path / "t").rows == [(3, {"a": "1", "b": "", "c": ""}), (4, {"a": "2", "b": "x\ty", "c": "z"})]
    assert read_fields(tmp_path / "t", ",")[0] == (1, ["a\tb\tc"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "header: the file is empty. Write the names of the columns in its first line: a, b."),
        ("\n\t\n", "header: the file is empty"),
        ("a\tc\n", "b: the column is missing; the columns are a, c. Add it, separated by tabs; needed are a, b."),
        ("a\ta\tb\n", "a: the column occurs twice"),
        ("a\t\tb\n", "header: column 2 has no name"),
        ("a\tb\t\n1\t2\t3\n", "header: column 3 has no name"),
        ("a\tb\n1\t2\t3\n", "line 2, row: has 3 values for 2 columns"),
        ('a\tb\n1\t"2\n3\t4\n', "line 3: cannot be read (unexpected end of data)"),
        ('a\tb\n1\t"2"x\n', "line 2: cannot be read ("),
    ],
)
def test_a_table_that_cannot_be_read_names_line_or_column(tmp_path, text, message):
    (tmp_path / "t").write_text(text)
    with pytest.raises(UserError) as refused:
        read_rows(tmp_path / "t", required=("a", "b"))
    assert message in str(refused.value)
