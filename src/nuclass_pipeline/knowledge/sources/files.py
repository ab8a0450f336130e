"""Reading a user's download: its origin, its checksum, and its errors."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import READ_ERRORS, read_text

logger = logging.getLogger(__name__)

MAX_SOURCE_MB = 256
"""Largest text file of a source that is read, MB."""
_SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}


@dataclass(frozen=True)
class Origin:
    """Where a source can be downloaded, its licence, and how to cite it.

    Attributes
    ----------
    name
        Name of the file and of the source.
    url
        Page to download it from.
    licence
        Licence as stated there.
    cite
        Publication.
    """

    name: str
    url: str
    licence: str
    cite: str

    @property
    def remedy(self) -> str:
        """What to do where the file is missing or broken."""
        return f"Download {self.name} from {self.url} (licence: {self.licence}; cite {self.cite})."


def read_download(path: Path | str, origin: Origin, columns: Sequence[str] = ()) -> tuple[pd.DataFrame, str]:
    """Read a table as text, and log its checksum and licence.

    Parameters
    ----------
    path
        A .csv, .tsv, .txt (tabs) or .xlsx file, the text ones possibly gzipped.
    origin
        Origin of the file, for the log and errors.
    columns
        Columns that it must have.

    Returns
    -------
    All rows as stripped text, with "" for empty fields; and the release, which is the file name and the start of its SHA-256.

    Raises
    ------
    UserError
        If the file is missing, cannot be read, lacks a column, or has no row.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(path, "file", "it does not exist", origin.remedy)
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    logger.info("%s: %s, sha256 %s; licence: %s; cite %s", origin.name, path, digest, origin.licence, origin.cite)
    frame = _parse(path, origin).fillna("").astype(str)
    frame = frame.apply(lambda column: column.str.strip())
    require_columns(frame, path, origin, columns)
    if frame.empty:
        raise UserError(path, "rows", "the table has none", origin.remedy)
    return frame, f"{path.name} {digest[:12]}"


def require_columns(frame: pd.DataFrame, path: Path | str, origin: Origin, columns: Sequence[str]) -> None:
    """Raise `UserError` at the first of `columns` that `frame` lacks."""
    if missing := [name for name in columns if name not in frame]:
        found = f"the column is missing; found {', '.join(map(str, frame.columns))}"
        raise UserError(path, missing[0], found, f"The original has {', '.join(columns)}. {origin.remedy}")


def to_numbers(frame: pd.DataFrame, column: str, path: Path | str, high: float) -> pd.Series:
    """Convert `column` of rows from `read_download` to numbers, NaN where it is empty or NA.

    Raises
    ------
    UserError
        At the first value that is not a number from 0 to `high`; the index of `frame` gives its line in the file at `path`.
    """
    text = frame[column].replace({"NA": ""})
    numbers = pd.to_numeric(text, errors="coerce")
    wrong = (text != "") & ~numbers.between(0, high)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        problem = f"{text.iloc[row]!r} is not a number from 0 to {high:g}"
        raise UserError(path, f"{column}, line {frame.index[row] + 2}", problem, "Download the original file again.")
    return numbers


def _parse(path: Path, origin: Origin) -> pd.DataFrame:
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if suffix != ".xlsx" and suffix not in _SEPARATORS:
        raise UserError(
            path,
            "file",
            f"the ending {suffix or 'none'} is not supported",
            f"Save it as {', '.join(_SEPARATORS)} or .xlsx. {origin.remedy}",
        )
    try:
        if suffix == ".xlsx":
            return pd.read_excel(path, dtype=str, keep_default_na=False)
        # By the reader of hand-made text, because panel lists are saved by spreadsheets in many encodings.
        text = path if path.name.lower().endswith(".gz") else StringIO(read_text(path, max_mb=MAX_SOURCE_MB, save=origin.remedy))
        return pd.read_csv(text, sep=_SEPARATORS[suffix], dtype=str, keep_default_na=False)
    except ImportError as error:
        raise UserError(path, "file", "reading .xlsx needs openpyxl", "Run `pip install openpyxl`, or save the sheet as .csv.") from error
    except READ_ERRORS as error:
        raise UserError(path, "file", f"cannot be read ({' '.join(str(error).split())})", origin.remedy) from error
