"""Labels that override the evidence: a person's edits of clusters, or labels provided from elsewhere."""

import logging
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nuclass_pipeline.arrays import Booleans
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.expression.counts import cluster_digests
from nuclass_pipeline.labeling.hand_made import read_edit_rows, read_label_rows
from nuclass_pipeline.vocabulary import UNRESOLVED, read_label_map

logger = logging.getLogger(__name__)

EDITED, NOT_PROVIDED, PROVIDED_UNRESOLVED = "edited", "not provided", "provided as Unresolved"
"""Reasons of cells that an edit or a file of provided labels leaves Unresolved."""

_COPY_AGAIN = "Copy the row again from the slide's proposals.tsv and check its evidence, or delete the row."


def apply_edits(labels: pd.DataFrame, path: Path, own: Iterable[str] = ()) -> pd.DataFrame:
    """Return the labels with those of edited clusters replaced; all other cells stay as they are.

    The evidence (candidate, lineage, support, margin, purity) stays, because the person's decision was based on it.

    Parameters
    ----------
    labels
        Table `LABELS`.
    path
        Tab-separated `cluster, digest, label, note`; further columns are not read. The label is one of `CLASSES` and `own`, or
        Unresolved. The note names the evidence for the label.
    own
        Names of the study's own classes.

    Raises
    ------
    UserError
        If a column is missing, a cluster is unknown, repeated or has other cells than before, a label is unknown, or a note is empty.
    """
    edits = read_edits(path, cluster_digests(labels), own)
    clusters = labels["cluster"].astype(str)
    rows = (labels["cluster"].notna() & clusters.isin(list(edits))).to_numpy()
    names = [edits[name] for name in clusters[rows]]
    logger.info("%s: %d edited clusters, %d cells", path, len(edits), len(names))
    return _override(labels, rows, names, [EDITED if name == UNRESOLVED else None for name in names], "edit")


def read_edits(path: Path, digests: Mapping[str, str], own: Iterable[str] = ()) -> dict[str, str]:
    """Read edits as cluster → label.

    Parameters
    ----------
    path
        As for `apply_edits`, which also lists the errors.
    digests
        Cluster → digest of the present clusters.
    own
        Names of the study's own classes.
    """
    edits = read_edit_rows(path, own)
    for edit in edits:
        # By digest, because the number of a cluster survives a new clustering, and its cells may not.
        if digests.get(edit.cluster) != edit.digest:
            problem = _what_changed(edit.cluster, edit.digest, digests)
            raise UserError(path, f"line {edit.line}, cluster {edit.cluster}", problem, _COPY_AGAIN)
    return {edit.cluster: edit.label for edit in edits}


def _what_changed(cluster: str, digest: str, digests: Mapping[str, str]) -> str:
    present = {found: name for name, found in digests.items()}
    if spoilt := _spoilt(digest, present):
        return f"the digest {digest!r} was {spoilt!r} before a spreadsheet read it as a number"
    if digest in present:
        return f"the clusters have been renamed: the cells with digest {digest} are now cluster {present[digest]}"
    if cluster in digests:
        return f"its cells have changed: the digest was {digest or 'not given'} and is {digests[cluster]}"
    return f"the slide no longer has such a cluster; it has {', '.join(digests) or 'none'}"


def apply_provided(labels: pd.DataFrame, path: Path, label_map: Path, own: Iterable[str] = ()) -> pd.DataFrame:
    """Return the labels with all replaced by those of a CSV file, mapped to classes; cells that the file lacks are Unresolved.

    Parameters
    ----------
    labels
        Table `LABELS`. The evidence in it stays.
    path
        CSV with one of the columns `ID_COLUMNS` and one of `LABEL_COLUMNS`, such as 10x's `cell_groups.csv`.
    label_map
        `config/labels.tsv`. The raw labels that it drops are logged with counts, and its reasons become those of the cells.
    own
        Names of the study's own classes.

    Raises
    ------
    UserError
        If none or several of the columns are there, or a cell is not on the slide or occurs twice.
    """
    given = read_provided(path, set(labels["cell_id"]))
    raw = [given.get(cell, "") for cell in labels["cell_id"]]
    aligned = read_label_map(label_map, own).align(name or UNRESOLVED for name in raw)
    for (name, reason), count in aligned.dropped.most_common():
        logger.warning("%d cells of %r are Unresolved: %s", count, name, reason)
    why = {"": NOT_PROVIDED, UNRESOLVED: PROVIDED_UNRESOLVED, **dict(aligned.dropped.keys())}
    reasons = [why[source] if name == UNRESOLVED else None for source, name in zip(raw, aligned.labels, strict=True)]
    return _override(labels, np.ones(len(labels), bool), aligned.labels, reasons, "provided")


def dropped_labels(labels: pd.DataFrame) -> list[str]:
    """Return a warning for each reason why provided labels became Unresolved, with the number of cells."""
    dropped = labels[(labels["source"] == "provided") & labels["reason"].notna() & (labels["reason"] != PROVIDED_UNRESOLVED)]
    return [
        f"{count} of {len(labels)} cells have no provided label that is a class: {reason}"
        for reason, count in dropped["reason"].value_counts().items()
    ]


def read_provided(path: Path, cells: Collection[str]) -> dict[str, str]:
    """Read provided labels as cell → raw label.

    Parameters
    ----------
    path
        As for `apply_provided`, which also lists the errors.
    cells
        Cells of the slide.
    """
    identity, given = read_label_rows(path)
    if unknown := [cell for cell, _ in given if cell not in cells]:
        problem = f"{len(unknown)} of {len(given)} cells are not on the slide, such as {unknown[0]!r}"
        if spoilt := _spoilt(unknown[0], cells):
            problem += f", which was {spoilt!r} before a spreadsheet read it as a number"
        elif len(unknown) == len(given):
            problem += "; the file seems to be of another slide"
        raise UserError(path, identity, problem, "Use the cell ids of the slide's cells.parquet, in a column of text.")
    return dict(given)


def _spoilt(text: str, known: Iterable[str]) -> str | None:
    """Return what `text` was before a spreadsheet read it as a number: it drops leading zeros, and writes 1E+05 for 100000 or 1e5."""
    if not re.fullmatch(r"\d+(\.\d+)?([eE][-+]?\d+)?", text):
        return None
    value, rounded = float(text), "e" in text.lower()
    numbers = ((name, float(name)) for name in known if re.fullmatch(r"\d+([eE]\d+)?", name))
    return next((name for name, number in numbers if number == value or (rounded and f"{number:.2E}" == f"{value:.2E}")), None)


def _override(labels: pd.DataFrame, rows: Booleans, names: Sequence[str], reasons: Sequence[str | None], source: str) -> pd.DataFrame:
    values = pd.DataFrame({"label": names, "confidence": [float(name != UNRESOLVED) for name in names]}, index=labels.index[rows])
    values = values.assign(reason=np.array(reasons, dtype=object), source=source)
    frame = labels.copy()
    frame.loc[rows, values.columns] = values
    return frame
