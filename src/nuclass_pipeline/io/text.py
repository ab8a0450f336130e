"""Text files made by hand or by a spreadsheet: one reader for every encoding, line end and separator."""

import codecs
import csv
import logging
import re
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TypedDict, Unpack

from nuclass_pipeline.errors import UserError, first_line
from nuclass_pipeline.io.paths import CHECK_PATH
from nuclass_pipeline.io.spreadsheet import unquote_formula

logger = logging.getLogger(__name__)

MAX_TEXT_MB = 16
"""Largest table that a person makes, MB; readers of larger ones state their own limit."""
SAVE_AS_TEXT = "Save it as tab-separated text in UTF-8."

_ENCODINGS = (
    # UTF-32 first, because its mark begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_FORMATS = (
    (b"PK\x03\x04", "a workbook (.xlsx or .ods), or another zip archive"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook (.xls)"),
    (b"{\\rtf", "rich text (.rtf)"),
    (b"%PDF", "a PDF"),
    (b"\x1f\x8b", "compressed by gzip"),
    (b"BZh", "compressed by bzip2"),
    (b"\xfd7zXZ\x00", "compressed by xz"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"\x89HDF", "an HDF5 file"),
    (b"PAR1", "a Parquet file"),
    (b"SQLite format 3\x00", "a database"),
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f]")
_STATED = re.compile(r'"?sep=(.)"?\n', re.IGNORECASE)
_COMMENTS = re.compile(r"\A(\s*\"?#[^\n]*\n|\n)+")
_HEADER_BYTES = 65_536
_SEPARATORS = ("\t", ";", ",")
_INVISIBLE = "\ufeff\u200b\u2060"


@dataclass(frozen=True)
class TextTable:
    """A table of text.

    Attributes
    ----------
    columns
        Names in the header.
    rows
        Line in the file, and column → text; empty where the row is shorter than the header.
    """

    columns: tuple[str, ...]
    rows: list[tuple[int, dict[str, str]]]


class TextOptions(TypedDict, total=False):
    """Options of the readers of text.

    Attributes
    ----------
    missing
        Remedy where there is no such file.
    save
        Remedy where the file is not text.
    max_mb
        Size above which a file is refused, MB.
    comments
        Whether lines that begin with # are left out above the header.
    row_names
        Name of a first column that has none, as R and pandas write the names of rows.
    """

    missing: str
    save: str
    max_mb: int
    comments: bool
    row_names: str


def read_text(path: Path | str, **options: Unpack[TextOptions]) -> str:
    r"""Read a text file; its lines end with ``\n``, however they end in the file.

    UTF-8 and UTF-16 are recognised, with and without a byte-order mark. Other text is read as Windows-1252 (a superset of Latin-1), with a
    warning.

    Parameters
    ----------
    path
        A regular file.
    **options
        See `TextOptions`.

    Raises
    ------
    UserError
        If the file is missing, is a folder, pipe or device, cannot be opened, is too large, or is not text.
    """
    save = options.get("save", SAVE_AS_TEXT)
    limit = options.get("max_mb", MAX_TEXT_MB)
    data = _read_bytes(path, options.get("missing", CHECK_PATH), limit * 10**6 + 1)
    if len(data) > limit * 10**6:
        raise UserError(path, "file", f"it is larger than {limit} MB", "Check the path; a file of this kind is smaller.")
    return _as_text(path, data, save)


def _as_text(path: Path | str, data: bytes, save: str) -> str:
    if found := next((what for magic, what in _FORMATS if data.startswith(magic)), None):
        raise UserError(path, "file", f"it is {found}, not text", save)
    text = re.sub(r"\r\n?", "\n", _decode(path, data, save))
    if control := _CONTROL.search(text):
        line = text.count("\n", 0, control.start()) + 1
        raise UserError(path, f"line {line}", f"not text: it has the control character {ord(control[0]):#04x}", save)
    return text


def read_fields(path: Path | str, delimiter: str | None = None, **options: Unpack[TextOptions]) -> list[tuple[int, list[str]]]:
    """Read the cells of every line that is not empty, without blanks around them, after the number of the line.

    Parameters
    ----------
    path
        A text file whose cells may be quoted.
    delimiter
        Separator; None for the one in the first line: a tab, else a semicolon, else a comma.
    **options
        See `TextOptions`.

    Raises
    ------
    UserError
        As for `read_text`, and where a quote is not closed.
    """
    return _split(path, _without_comments(read_text(path, **options), options), delimiter)


def _without_comments(text: str, options: TextOptions) -> str:
    """Return the text with empty lines in place of the comments above its header, because lines keep their numbers."""
    return _COMMENTS.sub(lambda found: "\n" * found[0].count("\n"), text) if options.get("comments") else text


def read_header(path: Path | str, **options: Unpack[TextOptions]) -> tuple[str, ...]:
    """Return the names of the columns in the first line of a table, without reading the rest; see `read_fields`."""
    data = _read_bytes(path, options.get("missing", CHECK_PATH), _HEADER_BYTES)
    end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
    # One byte more in UTF-16, because a line end has two there.
    end += end % 2 if _encoding(data).startswith("utf-16") else 0
    text = _as_text(path, data[:end] or data, options.get("save", SAVE_AS_TEXT)).lstrip("\n")
    text = _without_comments(text, options).lstrip("\n")
    lines = text.split("\n")[: 2 if _STATED.match(text) else 1]
    names = next(iter(_split(path, "\n".join(lines), None)), (0, []))[1]
    return tuple(_name_first(names, options))


def _name_first(names: list[str], options: TextOptions) -> list[str]:
    return [options["row_names"], *names[1:]] if options.get("row_names") and names and not names[0] else names


def _split(path: Path | str, text: str, delimiter: str | None) -> list[tuple[int, list[str]]]:
    stated = _STATED.match(text)
    first = text.lstrip("\n").partition("\n")[0]
    delimiter = delimiter or (stated[1] if stated else _separator(first))
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        rows = [(reader.line_num, [unquote_formula(cell.strip().strip(_INVISIBLE).strip()) for cell in row]) for row in reader]
    except csv.Error as error:
        raise UserError(path, f"line {reader.line_num}", f"cannot be read ({first_line(error)})", "Close its quotes.") from error
    return [(line, row) for line, row in rows[1 if stated else 0 :] if any(row)]


def read_rows(path: Path | str, delimiter: str | None = None, *, required: Sequence[str] = (), **options: Unpack[TextOptions]) -> TextTable:
    """Read a table with a header.

    Empty cells after the last column are left out, because spreadsheets write them.

    Parameters
    ----------
    path
        A text file.
    delimiter
        As for `read_fields`.
    required
        Columns that it must have.
    **options
        See `TextOptions`.

    Raises
    ------
    UserError
        As for `read_fields`. Also if there is no header, a column is missing, repeated or without a name, or a row is too long.
    """
    lines = read_fields(path, delimiter, **options)
    if not lines:
        names = f": {', '.join(required)}" if required else ""
        raise UserError(path, "header", "the file is empty", f"Write the names of the columns in its first line{names}.")
    (_, header), *rows = lines
    width = max((_width(row) for _, row in rows), default=0)
    columns = _name_first(header[: max(_width(header), width)], options)
    if nameless := [number for number, name in enumerate(columns, start=1) if not name]:
        raise UserError(path, "header", f"column {nameless[0]} has no name", "Name the column, or remove it from every line.")
    if twice := [name for name, count in Counter(columns).items() if count > 1]:
        raise UserError(path, twice[0], f"the column occurs twice; the columns are {', '.join(columns)}", "Remove one of them.")
    if missing := [name for name in required if name not in columns]:
        problem = f"the column is missing; the columns are {', '.join(columns)}"
        raise UserError(path, missing[0], problem, f"Add it, separated by tabs; needed are {', '.join(required)}.")
    for line, row in rows:
        if _width(row) > len(columns):
            problem = f"has {_width(row)} values for {len(columns)} columns"
            raise UserError(path, f"line {line}, row", problem, "Remove the extra separators, or put quotes around text that contains one.")
    return TextTable(tuple(columns), [(line, dict(zip(columns, [*row, *[""] * len(columns)], strict=False))) for line, row in rows])


def _read_bytes(path: Path | str, missing: str, size: int) -> bytes:
    try:
        mode = Path(path).stat().st_mode
        if stat.S_ISDIR(mode):
            raise UserError(path, "file", "it is a folder, not a file", missing)
        # Before it is opened, because opening a pipe waits for a writer for ever.
        if not stat.S_ISREG(mode):
            raise UserError(path, "file", "it is a pipe or a device, not a regular file", missing)
        with Path(path).open("rb") as stream:
            return stream.read(size)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(path, "file", "it does not exist", missing) from None
    except (OSError, ValueError) as error:
        raise UserError(path, "file", f"it cannot be opened ({first_line(error)})", missing) from error


def _decode(path: Path | str, data: bytes, save: str) -> str:
    encoding = _encoding(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise UserError(path, "file", f"not text in {encoding.upper()} ({error.reason})", save) from error
        line = len(re.findall(rb"\r\n?|\n", data[: error.start])) + 1
    # Escaped bytes, because a file that also has whole UTF-8 characters is damaged, and not in Windows-1252.
    if re.search("[^\x00-\x7f\udc80-\udcff]", data.decode("utf-8", "surrogateescape")):
        raise UserError(path, f"line {line}", "it has UTF-8 characters, but this line is in another encoding", save)
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError as error:
        raise UserError(path, f"line {line}", "not text in UTF-8, UTF-16 or Windows-1252", save) from error
    found = re.split(r"\r\n?|\n", text)[line - 1].strip()[:60]
    logger.warning("%s: line %d is not in UTF-8, so the file is read as Windows-1252: %r", path, line, found)
    return text


def _encoding(data: bytes) -> str:
    return next((name for mark, name in _ENCODINGS if data.startswith(mark)), None) or _without_mark(data)


def _without_mark(data: bytes) -> str:
    """Return the encoding of text without a byte-order mark."""
    odd, even = data[1:2000:2].count(0), data[0:2000:2].count(0)
    # By the zeros, because Latin letters have one in every second byte of UTF-16.
    if max(odd, even) <= len(data[:2000]) / 5 or min(odd, even) > len(data[:2000]) / 20:
        return "utf-8"
    return "utf-16-le" if odd > even else "utf-16-be"


def _separator(line: str) -> str:
    bare = re.sub(r'"[^"]*"', "", line)
    return next((separator for separator in _SEPARATORS if separator in bare), "\t")


def _width(row: Sequence[str]) -> int:
    """Return the number of cells up to the last that is not empty."""
    return max((number for number, cell in enumerate(row, start=1) if cell), default=0)
