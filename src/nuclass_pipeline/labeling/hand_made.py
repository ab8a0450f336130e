"""Files in which a person labels clusters or cells: their form, which is checked when the run file is read and again in the job."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nuclass_pipeline.errors import UserError, similar
from nuclass_pipeline.expression.given_clusters import CLUSTER_COLUMNS
from nuclass_pipeline.io.cell_columns import H5AD, columns_of, find_cell_columns, read_cell_column, read_cell_rows
from nuclass_pipeline.knowledge.markers import read_markers
from nuclass_pipeline.vocabulary import CLASSES, UNRESOLVED

if TYPE_CHECKING:
    from nuclass_pipeline.config.run import Run

EDIT_COLUMNS = ("cluster", "digest", "label", "note")
LABEL_COLUMNS = ("label", "group", "cluster", "cell_type", "celltype", "annotation", "cluster_annotation", "cell_type_annotation")

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
    """Check the marker table and the files of a person's labels and clusters, as far as that needs no results.

    Raises
    ------
    UserError
        As for `read_markers`, `read_edit_rows`, `read_label_rows` and `find_cell_columns`.
    """
    if Path(run.config.labeling.markers).is_file():
        read_markers(run.config.labeling.markers)
    for path, column in run.hand_made:
        if path.suffix == ".tsv":
            read_edit_rows(path, run.config.study.colors)
        elif path.suffix != H5AD and path.stat().st_size <= MAX_READ_EARLY_MB * 10**6:
            read_label_rows(path, column)
        else:
            find_label_columns(path, columns_of(path), column)
    for slide in run.clustered_by_hand:
        own = Path(str(run.own_clusters(slide)))
        find_cell_columns(own, columns_of(own), CLUSTER_COLUMNS, run.cluster_column(slide))


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
    for line, row in read_cell_rows(path, EDIT_COLUMNS, EDIT_COLUMNS).rows:
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


def read_label_rows(path: Path, column: str | None = None) -> tuple[str, list[tuple[str, str]]]:
    """Read provided labels, whichever cells there are: the name of the column of ids, and cells with their raw labels.

    Parameters
    ----------
    path
        Table of text or AnnData file; see `read_cell_column`, also for the errors.
    column
        Column of the labels; None for the only one of `LABEL_COLUMNS`.
    """
    return read_cell_column(path, LABEL_COLUMNS, column)


def find_label_columns(path: Path, columns: Sequence[str], column: str | None = None) -> tuple[str, str]:
    """Return the names of the columns of ids and of labels; see `read_label_rows`."""
    return find_cell_columns(path, columns, LABEL_COLUMNS, column)
