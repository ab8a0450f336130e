"""Files in which a person labels clusters or cells: their form, which is checked when the run file is read and again in the job."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nuclass_pipeline.errors import UserError, similar
from nuclass_pipeline.io import TextTable, read_header, read_rows
from nuclass_pipeline.knowledge.markers import read_markers
from nuclass_pipeline.vocabulary import CLASSES, UNRESOLVED

if TYPE_CHECKING:
    from nuclass_pipeline.config.run import Run

EDIT_COLUMNS = ("cluster", "digest", "label", "note")
# Several names each, because the files of 10x and of common tools are then read as they are.
ID_COLUMNS = ("cell_id", "barcode")
LABEL_COLUMNS = ("label", "group", "cluster", "cell_type")

MAX_LABELS_MB = 128
"""Largest file of provided labels, MB: about three million cells."""
# Because a million rows take seconds, and Snakemake reads the run file again at every call.
MAX_READ_EARLY_MB = 1
"""Largest file of provided labels whose rows are read before the first job, MB; of larger ones the header is."""


class Edit(NamedTuple):
    """A row of edits: the line in the file, the cluster, the digest of its cells, and its label."""

    line: int
    cluster: str
    digest: str
    label: str


def check_hand_made(run: "Run") -> None:
    """Check the marker table and the files of a person's labels, as far as that needs no results.

    Raises
    ------
    UserError
        As for `read_markers`, `read_edit_rows` and `read_label_rows`.
    """
    if Path(run.config.labeling.markers).is_file():
        read_markers(run.config.labeling.markers)
    for path in map(Path, run.annotations):
        if path.suffix == ".tsv":
            read_edit_rows(path, run.config.study.colors)
        elif path.stat().st_size <= MAX_READ_EARLY_MB * 10**6:
            read_label_rows(path)
        else:
            find_label_columns(path, read_header(path))


def read_edit_rows(path: Path, own: Iterable[str] = ()) -> list[Edit]:
    """Read edits of clusters, whichever clusters there are.

    Parameters
    ----------
    path
        Tab-separated `cluster, digest, label, note`; further columns are not read.
    own
        Names of classes beside `CLASSES`.

    Raises
    ------
    UserError
        If a column is missing, a cluster is repeated, a label is unknown, or a note is empty.
    """
    allowed, edits = list(dict.fromkeys((*own, *CLASSES))), dict[str, Edit]()
    for line, row in _rows(path, EDIT_COLUMNS).rows:
        edit = Edit(line, *(row[name] for name in EDIT_COLUMNS[:3]))
        field = f"line {line}, cluster {edit.cluster}"
        if edit.cluster in edits:
            raise UserError(path, field, "the cluster occurs twice", "Keep one row per cluster.")
        if edit.label not in (*allowed, UNRESOLVED):
            problem = f"{edit.label!r} is not a class{similar(edit.label, [*allowed, UNRESOLVED])}"
            raise UserError(path, field, problem, f"Use one of {', '.join(allowed)}, or {UNRESOLVED}.")
        if not row["note"]:
            raise UserError(path, field, "the note is empty", "Write which markers the label is based on, such as `MS4A1, CD79A; no CD3E`.")
        edits[edit.cluster] = edit
    return list(edits.values())


def read_label_rows(path: Path) -> tuple[str, list[tuple[str, str]]]:
    """Read provided labels, whichever cells there are: the name of the column of ids, and cells with their raw labels.

    Parameters
    ----------
    path
        CSV with one of the columns `ID_COLUMNS` and one of `LABEL_COLUMNS`, such as 10x's `cell_groups.csv`.

    Raises
    ------
    UserError
        If none or several of the columns are there, or a cell occurs twice.
    """
    table = _rows(path)
    identity, label = find_label_columns(path, table.columns)
    given = [(row[identity], row[label]) for _, row in table.rows]
    if twice := [cell for cell, n in Counter(cell for cell, _ in given).items() if n > 1]:
        raise UserError(path, identity, f"{twice[0]!r} occurs twice", "Keep one row per cell.")
    return identity, given


def find_label_columns(path: Path, columns: Sequence[str]) -> tuple[str, str]:
    """Return the names of the columns of ids and of labels."""
    return _column(path, columns, ID_COLUMNS), _column(path, columns, LABEL_COLUMNS)


def _column(path: Path, columns: Sequence[str], allowed: Sequence[str]) -> str:
    # However it is written, because Xenium Explorer exports `Cell ID`, and its earlier versions `cell_id`.
    wanted = {name.casefold() for name in allowed}
    found = [name for name in columns if name.casefold().replace(" ", "_") in wanted]
    if not found:
        raise UserError(path, " | ".join(allowed), f"no such column; found {', '.join(columns) or 'none'}", "Add one of these columns.")
    if len(found) > 1:
        raise UserError(path, " | ".join(allowed), f"the columns {' and '.join(found)} mean the same", "Remove all but one of them.")
    return found[0]


def _rows(path: Path, required: Sequence[str] = ()) -> TextTable:
    if Path(path).is_file() and not Path(path).stat().st_size:
        names = ", ".join(required or (ID_COLUMNS[0], LABEL_COLUMNS[0]))
        raise UserError(path, "header", "the file is empty", f"Write the names of the columns in its first line: {names}.")
    table = read_rows(path, required=required, max_mb=MAX_LABELS_MB)
    if not table.rows:
        raise UserError(path, "rows", "the table has none", "Add the rows that change a label, or remove the file.")
    return table
