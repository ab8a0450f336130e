"""Alignment files of Xenium Explorer: a matrix, keypoints, or the zip archive that holds both."""

import re
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import READ_ERRORS, first_line, require
from nuclass_pipeline.io.text import read_fields

KEYPOINTS = ("fixedX", "fixedY", "alignmentX", "alignmentY")
EXPORT_ALIGNMENT = "Export the alignment again from Xenium Explorer."
MAX_OFFSET_PX = 1e9
MAX_FILE_MB = 1
"""Largest alignment file, MB."""

_Rows = list[tuple[int, list[str]]]


@dataclass(frozen=True)
class AlignmentFile:
    """What an alignment file holds; one of its parts may be absent.

    Attributes
    ----------
    matrix
        H&E pixel (x, y, 1) → Xenium pixel (x, y, 1), (3, 3).
    keypoints
        Pairs of Xenium pixel (x, y) and H&E pixel (x, y), (N, 4).
    lines
        Lines of the keypoints in their file.
    """

    matrix: Floats | None = None
    keypoints: Floats | None = None
    lines: tuple[int, ...] = ()


def read_alignment_file(path: Path | str) -> AlignmentFile:
    """Read a CSV or zip file of Xenium Explorer; separators, encodings and decimal commas of spreadsheets are accepted.

    Raises
    ------
    UserError
        If it holds neither a matrix nor keypoints, or a value that is not a finite number.
    """
    path = require(path)
    if path.is_file() and zipfile.is_zipfile(path):
        return _read_zip(path)
    return _parse(path, read_fields(path, save=EXPORT_ALIGNMENT, max_mb=MAX_FILE_MB))


def _read_zip(path: Path) -> AlignmentFile:
    """Read `matrix.csv` and `keypoints.csv` of an archive, in whatever folder they are."""
    parts: dict[str, AlignmentFile] = {}
    try:
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
            names = [name for name in archive.namelist() if "__MACOSX" not in name]
            for part in ("matrix", "keypoints"):
                found = [name for name in names if PurePosixPath(name).name.casefold().endswith(f"{part}.csv")]
                if len(found) > 1:
                    raise UserError(path, part, f"the archive holds {found[0]!r} and {found[1]!r}", "Unpack it, and enter one of them.")
                if found:
                    copy = Path(folder, f"{part}.csv")
                    with archive.open(found[0]) as stream:
                        # One byte more than allowed, because the reader then refuses the file by its size.
                        copy.write_bytes(stream.read(MAX_FILE_MB * 10**6 + 1))
                    parts[part] = _of_member(path, copy)
    except READ_ERRORS as error:
        raise UserError(path, "file", f"not a readable zip archive ({first_line(error)})", EXPORT_ALIGNMENT) from error
    if not parts:
        held = ", ".join(map(repr, names[:3])) or "nothing"
        raise UserError(path, "file", f"the archive has no matrix.csv and no keypoints.csv; it holds {held}", EXPORT_ALIGNMENT)
    matrix, keypoints = parts.get("matrix", AlignmentFile()), parts.get("keypoints", AlignmentFile())
    return AlignmentFile(matrix.matrix, keypoints.keypoints, keypoints.lines)


def _of_member(path: Path, copy: Path) -> AlignmentFile:
    try:
        return _parse(copy, read_fields(copy, save=EXPORT_ALIGNMENT, max_mb=MAX_FILE_MB))
    except UserError as error:
        raise UserError(path, f"{copy.name}, {error.field}", error.problem, error.remedy) from error


def _parse(path: Path, rows: _Rows) -> AlignmentFile:
    header = [re.sub("[^a-z]", "", cell.casefold()) for cell in rows[0][1]] if rows else []
    places = [header.index(name.casefold()) if name.casefold() in header else None for name in KEYPOINTS]
    if all(place is None for place in places):
        return AlignmentFile(matrix=_matrix(path, rows))
    if missing := [name for name, place in zip(KEYPOINTS, places, strict=True) if place is None]:
        problem = f"the column is missing; the columns are {', '.join(rows[0][1])}"
        raise UserError(path, missing[0], problem, f"Keypoints need the columns {', '.join(KEYPOINTS)}.")
    points = rows[1:]
    for line, row in points:
        if len(row) < len(header):
            raise UserError(path, f"line {line}", f"has {len(row)} values for {len(header)} columns", EXPORT_ALIGNMENT)
    chosen = [(line, [row[place] for place in places if place is not None]) for line, row in points]
    return AlignmentFile(keypoints=_numbers(path, chosen).reshape(-1, 4), lines=tuple(line for line, _ in points))


def _matrix(path: Path, rows: _Rows) -> Floats:
    for line, row in rows:
        if len(row) != 3:
            raise UserError(path, f"line {line}", f"has {len(row)} values, not 3", EXPORT_ALIGNMENT)
    matrix = _numbers(path, rows)
    if matrix.shape != (3, 3) or not np.allclose(matrix[2], (0, 0, 1)):
        problem = f"{len(rows)} rows, last {rows[-1][1] if rows else []}, not a 3 × 3 matrix that ends with 0,0,1"
        raise UserError(path, "matrix", problem, EXPORT_ALIGNMENT)
    return matrix


def _numbers(path: Path, rows: _Rows) -> Floats:
    # Only without a point in the file, because a comma beside it separates thousands.
    has_points = any("." in cell for _, row in rows for cell in row)
    values = []
    for line, row in rows:
        try:
            numbers = [float(cell if has_points else cell.replace(",", ".")) for cell in row]
        except ValueError as error:
            raise UserError(path, f"line {line}", f"is not of numbers ({error})", EXPORT_ALIGNMENT) from error
        if wrong := [number for number in numbers if not abs(number) < MAX_OFFSET_PX]:
            raise UserError(path, f"line {line}", f"{wrong[0]:g} is not finite, or huge (above {MAX_OFFSET_PX:g})", EXPORT_ALIGNMENT)
        values.append(numbers)
    return np.array(values, dtype=np.float64)
