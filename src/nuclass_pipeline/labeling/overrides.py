"""What a person says about the cells of a slide: edits of whole clusters, or labels from elsewhere."""

import csv
import hashlib
import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import require
from nuclass_pipeline.vocabulary import CLASSES, UNRESOLVED, read_label_map

logger = logging.getLogger(__name__)

EDITED, NOT_PROVIDED, PROVIDED_UNRESOLVED = "edited", "not provided", "provided as Unresolved"
"""Why a cell is Unresolved although a person was asked."""

EDIT_COLUMNS = ("cluster", "digest", "label", "note")
ID_COLUMNS = ("cell_id", "barcode", "Barcode")
LABEL_COLUMNS = ("label", "group", "Cluster", "cluster", "cell_type")

_COPY_AGAIN = "Copy the row again from the slide's proposals.tsv and look at its evidence, or delete the row."


def cluster_digests(clusters: pd.DataFrame) -> dict[str, str]:
    """Fingerprint which cells make up each cluster.

    Parameters
    ----------
    clusters
        Columns `cell_id` and `cluster`; cells without a cluster do not count.

    Returns
    -------
    Cluster → the first 12 hexadecimal digits of SHA-256 over its sorted cell ids, joined by line feeds.
    """
    named = clusters.loc[clusters["cluster"].notna(), ["cell_id", "cluster"]].astype(str)
    return {str(name): _digest(ids) for name, ids in named.groupby("cluster")["cell_id"]}


def _digest(ids: pd.Series) -> str:
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()[:12]


def apply_edits(labels: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Give the cells of the edited clusters the label that a person gave, and leave all other cells alone.

    What was measured (candidate, lineage, support, margin, purity) stays: it is the evidence that the person looked at.

    Parameters
    ----------
    labels
        Table `LABELS`.
    path
        Tab-separated `cluster, digest, label, note`; further columns are not read. The label is one of `CLASSES`, or Unresolved.

    Raises
    ------
    UserError
        If a column is missing, a cluster does not exist, occurs twice or has other cells than it had, a label is unknown, or a note,
        which says what evidence the label rests on, is empty.
    """
    edits = read_edits(path, cluster_digests(labels))
    clusters = labels["cluster"].astype(str)
    rows = (labels["cluster"].notna() & clusters.isin(list(edits))).to_numpy()
    names = [edits[name] for name in clusters[rows]]
    logger.info("%s: %d edited clusters, %d cells", path, len(edits), len(names))
    return _overrule(labels, rows, names, [EDITED if name == UNRESOLVED else None for name in names], "edit")


def read_edits(path: Path, digests: Mapping[str, str]) -> dict[str, str]:
    """Read cluster → label; `digests` are those of today's clusters. See `apply_edits` for the columns and errors."""
    columns, rows = _read_rows(path, "\t")
    if missing := [name for name in EDIT_COLUMNS if name not in columns]:
        raise UserError(path, missing[0], "the column is missing", f"The columns are {', '.join(EDIT_COLUMNS)}, separated by tabs.")
    edits: dict[str, str] = {}
    for row in rows:
        cluster, digest, label, note = (row[name].strip() for name in EDIT_COLUMNS)
        field = f"cluster {cluster}"
        if cluster in edits:
            raise UserError(path, field, "occurs twice", "Keep one row per cluster.")
        if digests.get(cluster) != digest:
            raise UserError(path, field, _what_changed(cluster, digest, digests), _COPY_AGAIN)
        if label not in (*CLASSES, UNRESOLVED):
            raise UserError(path, field, f"{label!r} is no class", f"Use one of {', '.join(CLASSES)}, or {UNRESOLVED}.")
        if not note:
            raise UserError(path, field, "the note is empty", "Write which markers speak for the label, such as `MS4A1, CD79A; no CD3E`.")
        edits[cluster] = label
    return edits


def _what_changed(cluster: str, digest: str, digests: Mapping[str, str]) -> str:
    today = {found: name for name, found in digests.items()}
    if digest in today:
        return f"the clusters have been renamed: the cells with digest {digest} are now cluster {today[digest]}"
    if cluster in digests:
        return f"its cells have changed: the digest was {digest or 'not given'} and is {digests[cluster]}"
    return f"the slide has no such cluster any more; it has {', '.join(digests) or 'none'}"


def apply_provided(labels: pd.DataFrame, path: Path, label_map: Path) -> pd.DataFrame:
    """Give every cell the label that a CSV file provides, through the one label map; the rest is Unresolved.

    Parameters
    ----------
    labels
        Table `LABELS`. What was measured stays.
    path
        CSV with one of the columns `ID_COLUMNS` and one of `LABEL_COLUMNS`, such as 10x's `cell_groups.csv`.
    label_map
        `config/labels.tsv`. What it drops is logged with counts, and its reasons become those of the cells.

    Raises
    ------
    UserError
        If there is no such column or more than one, or a cell is not on the slide or occurs twice.
    """
    given = read_provided(path, set(labels["cell_id"]))
    raw = [given.get(cell, "") for cell in labels["cell_id"]]
    aligned = read_label_map(label_map).align(name or UNRESOLVED for name in raw)
    for (name, reason), count in aligned.dropped.most_common():
        logger.warning("%d cells of %r are Unresolved: %s", count, name, reason)
    why = {"": NOT_PROVIDED, UNRESOLVED: PROVIDED_UNRESOLVED, **dict(aligned.dropped.keys())}
    reasons = [why[said] if name == UNRESOLVED else None for said, name in zip(raw, aligned.labels, strict=True)]
    return _overrule(labels, np.ones(len(labels), bool), aligned.labels, reasons, "provided")


def read_provided(path: Path, cells: Collection[str]) -> dict[str, str]:
    """Read cell → raw label; `cells` are those of the slide. See `apply_provided` for the columns and errors."""
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
    if len(found) != 1:
        problem = f"the columns {' and '.join(found)} mean the same" if found else f"no such column; found {', '.join(columns) or 'none'}"
        raise UserError(path, " | ".join(allowed), problem, "Keep exactly one of them.")
    return found[0]


def _read_rows(path: Path, delimiter: str) -> tuple[list[str], list[dict[str, str]]]:
    try:
        # Spreadsheets put a byte-order mark before the first column's name.
        with require(path).open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, delimiter=delimiter, restval="", strict=True)
            rows = list(reader)
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(path, "file", f"not a readable table ({error})", "Save it as UTF-8 text, with balanced quotes.") from error
    for line, row in enumerate(rows, start=2):
        if None in row:
            raise UserError(path, f"line {line}", "has more fields than the header", "Put quotes around text that holds the separator.")
    return list(reader.fieldnames or []), rows


def _overrule(
    labels: pd.DataFrame, rows: NDArray[np.bool_], names: Sequence[str], reasons: Sequence[str | None], source: str
) -> pd.DataFrame:
    said = pd.DataFrame({"label": names, "confidence": [float(name != UNRESOLVED) for name in names]}, index=labels.index[rows])
    said = said.assign(reason=np.array(reasons, dtype=object), source=source)
    frame = labels.copy()
    frame.loc[rows, said.columns] = said
    return frame
