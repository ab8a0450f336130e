"""Labels that override the evidence: a person's edits of clusters, or labels provided from elsewhere."""

import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nuclass_pipeline.arrays import Booleans
from nuclass_pipeline.config.loading.by_hand import names_beside
from nuclass_pipeline.errors import UserError, first_line
from nuclass_pipeline.expression.counts import cluster_digests
from nuclass_pipeline.labeling.hand_made import read_edit_rows, read_label_rows
from nuclass_pipeline.labeling.names import MAX_UNMATCHED, NOT_MATCHED, Match, match_names, read_names, write_names
from nuclass_pipeline.vocabulary import UNRESOLVED, read_label_map

logger = logging.getLogger(__name__)

EDITED, NOT_PROVIDED, PROVIDED_UNRESOLVED = "edited", "not provided", "provided as Unresolved"
"""Reasons of cells that an edit or a file of provided labels leaves Unresolved."""

MAX_SHOWN_NAMES = 10
"""Unknown names in a message."""
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


@dataclass(frozen=True)
class Provided:
    """A person's labels of cells, and where their names are explained.

    Attributes
    ----------
    path, column
        The table, and its column of labels; None for the only one with a usual name. See `read_label_rows`.
    label_map
        `config/labels.tsv`.
    names
        Table of names that the person filled in, and that is written where a name is unknown; None for that beside the table.
    """

    path: Path
    label_map: Path
    column: str | None = None
    names: Path | None = None

    @property
    def names_path(self) -> Path:
        """The table of names."""
        return self.names or names_beside(self.path)


def apply_provided(labels: pd.DataFrame, provided: Provided, own: Iterable[str] = ()) -> tuple[pd.DataFrame, list[str]]:
    """Return the labels with all replaced by those of a person, and warnings; cells without one are Unresolved.

    Names become classes by `match_names`. The unknown ones are written to the table of names.

    Parameters
    ----------
    labels
        Table `LABELS`. The evidence in it stays.
    provided
        The person's labels.
    own
        Names of the study's own classes.

    Raises
    ------
    UserError
        If the file cannot be read, a cell occurs twice, no cell is on the slide, or more than `MAX_UNMATCHED` of the labelled cells have an
        unknown name.
    """
    given, warnings = read_provided(provided.path, set(labels["cell_id"]), provided.column)
    given = {cell: UNRESOLVED if name.casefold() == UNRESOLVED.casefold() else name for cell, name in given.items()}
    raw = [given.get(cell, "") for cell in labels["cell_id"]]
    filled = read_names(provided.names_path, own)
    counts = Counter(name for name in raw if name not in ("", UNRESOLVED))
    meant = match_names(counts, read_label_map(provided.label_map, own), filled)
    warnings += _report_unmatched(provided, counts, meant, filled)
    for name, match in meant.items():
        if match.reason:
            logger.warning("%d cells of %r are Unresolved: %s", counts[name], name, match.reason)
    meant |= {"": Match(UNRESOLVED, NOT_PROVIDED), UNRESOLVED: Match(UNRESOLVED)}
    names = [meant[name].label for name in raw]
    why = {name: match.reason or (PROVIDED_UNRESOLVED if match.label == UNRESOLVED else None) for name, match in meant.items()}
    frame = _override(labels, np.ones(len(labels), bool), names, [why[name] for name in raw], "provided")
    return frame, warnings


def _report_unmatched(provided: Provided, counts: Counter[str], meant: Mapping[str, Match], filled: Mapping[str, str]) -> list[str]:
    """Write the table of names if one is unknown, and return a warning; too many unknown names are an error."""
    unmatched = Counter({name: counts[name] for name, match in meant.items() if match.reason == NOT_MATCHED})
    if not unmatched:
        return []
    path, total, cells = provided.names_path, counts.total(), unmatched.total()
    shown = ", ".join(f"{name!r} ({n})" for name, n in unmatched.most_common(MAX_SHOWN_NAMES)) + (
        " …" if len(unmatched) > MAX_SHOWN_NAMES else ""
    )
    problem = f"{cells} of {total} labelled cells have a name that is not known: {shown}"
    if cells > MAX_UNMATCHED * total:
        try:
            write_names(unmatched, path)
        except (UserError, OSError) as error:
            remedy = f"Let {path} be written, or write it with the columns name and label; then run again."
            raise UserError(provided.path, "labels", problem, remedy) from error
        remedy = f"Fill in the column label of {path}, with a class or {UNRESOLVED}; then run again, and it is read."
        raise UserError(provided.path, "labels", problem, remedy)
    # Not once it is filled in, because the job would run again by a table that it changed.
    if filled:
        return [f"{problem}; give them a class in {path.name}"]
    try:
        write_names(unmatched, path)
    except (UserError, OSError) as error:
        return [f"{problem}; {path.name} cannot be written ({first_line(error)})"]
    return [f"{problem}; fill in the column label of {path.name} to give them a class"]


def dropped_labels(labels: pd.DataFrame) -> list[str]:
    """Return a warning for each reason why provided labels became Unresolved, with the number of cells."""
    dropped = labels[(labels["source"] == "provided") & labels["reason"].notna() & (labels["reason"] != PROVIDED_UNRESOLVED)]
    return [
        f"{count} of {len(labels)} cells have no provided label that is a class: {reason}"
        for reason, count in dropped["reason"].value_counts().items()
    ]


def read_provided(path: Path, cells: Collection[str], column: str | None = None) -> tuple[dict[str, str], list[str]]:
    """Read provided labels as cell → raw label, and warnings.

    Parameters
    ----------
    path
        As for `read_label_rows`.
    cells
        Cells of the slide.
    column
        As for `read_label_rows`.

    Raises
    ------
    UserError
        As for `read_label_rows`. Also if no cell is on the slide, or a spreadsheet has changed the ids.
    """
    identity, given = read_label_rows(path, column)
    unknown = [cell for cell, _ in given if cell not in cells]
    if not unknown:
        return dict(given), []
    problem = f"{len(unknown)} of {len(given)} cells are not on the slide, such as {unknown[0]!r}"
    if spoilt := _spoilt(unknown[0], cells):
        problem += f", which was {spoilt!r} before a spreadsheet read it as a number"
    elif len(unknown) == len(given):
        problem += f"; the file seems to be of another slide, whose cells are such as {min(cells, default='')!r}"
    else:
        return dict(given), [f"{path.name}: {problem}; they are left out"]
    raise UserError(path, identity, problem, "Use the cell ids of the slide's cells.parquet, in a column of text.")


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
