"""Labels that override the evidence: a person's edits of clusters, or labels provided from elsewhere."""

import csv
import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nuclass_pipeline.arrays import Booleans
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.expression.counts import cluster_digests
from nuclass_pipeline.io import require
from nuclass_pipeline.vocabulary import CLASSES, UNRESOLVED, read_label_map

logger = logging.getLogger(__name__)

EDITED, NOT_PROVIDED, PROVIDED_UNRESOLVED = "edited", "not provided", "provided as Unresolved"
"""Reasons of cells that an edit or a file of provided labels leaves Unresolved."""

EDIT_COLUMNS = ("cluster", "digest", "label", "note")
# Several names each, because the files of 10x and of common tools are then read as they are.
ID_COLUMNS = ("cell_id", "barcode", "Barcode")
LABEL_COLUMNS = ("label", "group", "Cluster", "cluster", "cell_type")

_COPY_AGAIN = "Copy the row again from the slide's proposals.tsv and check its evidence, or delete the row."


def apply_edits(labels: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return the labels with those of edited clusters replaced; all other cells stay as they are.

    The evidence (candidate, lineage, support, margin, purity) stays, because the person's decision was based on it.

    Parameters
    ----------
    labels
        Table `LABELS`.
    path
        Tab-separated `cluster, digest, label, note`; further columns are not read. The label is one of `CLASSES`, or Unresolved. The note
        names the evidence for the label.

    Raises
    ------
    UserError
        If a column is missing, a cluster is unknown, repeated or has other cells than before, a label is unknown, or a note is empty.
    """
    edits = read_edits(path, cluster_digests(labels))
    clusters = labels["cluster"].astype(str)
    rows = (labels["cluster"].notna() & clusters.isin(list(edits))).to_numpy()
    names = [edits[name] for name in clusters[rows]]
    logger.info("%s: %d edited clusters, %d cells", path, len(edits), len(names))
    return _override(labels, rows, names, [EDITED if name == UNRESOLVED else None for name in names], "edit")


def read_edits(path: Path, digests: Mapping[str, str]) -> dict[str, str]:
    """Read edits as cluster → label.

    Parameters
    ----------
    path
        As for `apply_edits`, which also lists the errors.
    digests
        Cluster → digest of the present clusters.
    """
    columns, rows = _read_rows(path, "\t")
    if missing := [name for name in EDIT_COLUMNS if name not in columns]:
        raise UserError(path, missing[0], "the column is missing", f"Add it; the columns are {', '.join(EDIT_COLUMNS)}, separated by tabs.")
    edits: dict[str, str] = {}
    for row in rows:
        cluster, digest, label, note = (row[name].strip() for name in EDIT_COLUMNS)
        field = f"cluster {cluster}"
        if cluster in edits:
            raise UserError(path, field, "occurs twice", "Keep one row per cluster.")
        # By digest, because the number of a cluster survives a new clustering, and its cells may not.
        if digests.get(cluster) != digest:
            raise UserError(path, field, _what_changed(cluster, digest, digests), _COPY_AGAIN)
        if label not in (*CLASSES, UNRESOLVED):
            raise UserError(path, field, f"{label!r} is not a class", f"Use one of {', '.join(CLASSES)}, or {UNRESOLVED}.")
        if not note:
            raise UserError(path, field, "the note is empty", "Write which markers the label is based on, such as `MS4A1, CD79A; no CD3E`.")
        edits[cluster] = label
    return edits


def _what_changed(cluster: str, digest: str, digests: Mapping[str, str]) -> str:
    present = {found: name for name, found in digests.items()}
    if digest in present:
        return f"the clusters have been renamed: the cells with digest {digest} are now cluster {present[digest]}"
    if cluster in digests:
        return f"its cells have changed: the digest was {digest or 'not given'} and is {digests[cluster]}"
    return f"the slide no longer has such a cluster; it has {', '.join(digests) or 'none'}"


def apply_provided(labels: pd.DataFrame, path: Path, label_map: Path) -> pd.DataFrame:
    """Return the labels with all replaced by those of a CSV file, mapped to classes; cells that the file lacks are Unresolved.

    Parameters
    ----------
    labels
        Table `LABELS`. The evidence in it stays.
    path
        CSV with one of the columns `ID_COLUMNS` and one of `LABEL_COLUMNS`, such as 10x's `cell_groups.csv`.
    label_map
        `config/labels.tsv`. The raw labels that it drops are logged with counts, and its reasons become those of the cells.

    Raises
    ------
    UserError
        If none or several of the columns are there, or a cell is not on the slide or occurs twice.
    """
    given = read_provided(path, set(labels["cell_id"]))
    raw = [given.get(cell, "") for cell in labels["cell_id"]]
    aligned = read_label_map(label_map).align(name or UNRESOLVED for name in raw)
    for (name, reason), count in aligned.dropped.most_common():
        logger.warning("%d cells of %r are Unresolved: %s", count, name, reason)
    why = {"": NOT_PROVIDED, UNRESOLVED: PROVIDED_UNRESOLVED, **dict(aligned.dropped.keys())}
    reasons = [why[source] if name == UNRESOLVED else None for source, name in zip(raw, aligned.labels, strict=True)]
    return _override(labels, np.ones(len(labels), bool), aligned.labels, reasons, "provided")


def read_provided(path: Path, cells: Collection[str]) -> dict[str, str]:
    """Read provided labels as cell → raw label.

    Parameters
    ----------
    path
        As for `apply_provided`, which also lists the errors.
    cells
        Cells of the slide.
    """
    columns, rows = _read_rows(path, ",")
    identity, label = _column(path, columns, ID_COLUMNS), _column(path, columns, LABEL_COLUMNS)
    given = [(row[identity].strip(), row[label].strip()) for row in rows]
    if unknown := [cell for cell, _ in given if cell not in cells]:
        problem = f"{len(unknown)} of {len(given)} cells are not on the slide, such as {unknown[0]!r}"
        raise UserError(path, identity, problem, "Use the cell ids of the slide's cells.parquet.")
    if twice := [cell for cell, n in Counter(cell for cell, _ in given).items() if n > 1]:
        raise UserError(path, identity, f"{twice[0]!r} occurs twice", "Keep one row per cell.")
    return dict(given)


def _column(path: Path, columns: Sequence[str], allowed: Sequence[str]) -> str:
    found = [name for name in allowed if name in columns]
    if not found:
        raise UserError(path, " | ".join(allowed), f"no such column; found {', '.join(columns) or 'none'}", "Add one of these columns.")
    if len(found) > 1:
        raise UserError(path, " | ".join(allowed), f"the columns {' and '.join(found)} mean the same", "Remove all but one of them.")
    return found[0]


def _read_rows(path: Path, delimiter: str) -> tuple[list[str], list[dict[str, str]]]:
    try:
        # utf-8-sig, because spreadsheets put a byte-order mark before the first column's name.
        with require(path).open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, delimiter=delimiter, restval="", strict=True)
            rows = list(reader)
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(path, "file", f"not a readable table ({error})", "Save it as UTF-8 text, with balanced quotes.") from error
    for line, row in enumerate(rows, start=2):
        if None in row:
            raise UserError(path, f"line {line}", "has more fields than the header", "Put quotes around text that contains the separator.")
    return list(reader.fieldnames or []), rows


def _override(labels: pd.DataFrame, rows: Booleans, names: Sequence[str], reasons: Sequence[str | None], source: str) -> pd.DataFrame:
    values = pd.DataFrame({"label": names, "confidence": [float(name != UNRESOLVED) for name in names]}, index=labels.index[rows])
    values = values.assign(reason=np.array(reasons, dtype=object), source=source)
    frame = labels.copy()
    frame.loc[rows, values.columns] = values
    return frame
