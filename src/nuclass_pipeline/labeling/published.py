"""Scores of our labels on cells with published labels, by the published lineages."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.metrics import f1_score

from nuclass_pipeline.config.expression import ClusteringConfig
from nuclass_pipeline.config.labeling import LabelingConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.expression.clustering import embed
from nuclass_pipeline.expression.counts import totals
from nuclass_pipeline.io import READ_ERRORS, require
from nuclass_pipeline.knowledge.cell_types import HIERARCHY
from nuclass_pipeline.knowledge.markers import read_markers, restrict_to_panel
from nuclass_pipeline.labeling.accuracy import accuracy_at_coverage, confidence_scores, score_labels_table
from nuclass_pipeline.labeling.calibration import assign_calibrated
from nuclass_pipeline.labeling.evidence import annotator_named, gather_expression
from nuclass_pipeline.vocabulary import UNRESOLVED

logger = logging.getLogger(__name__)

NONE_OF_THESE = "none of these"
"""Lineage of types that belong to none of the published lineages."""


def score_counts(
    *, counts: Path, cells: Path, lineages: Path, organ: str, knowledge: Path, clustering: ClusteringConfig, labeling: LabelingConfig
) -> dict[str, Any]:
    """Label the cells of a count table, and score the lineages of the labels against published ones.

    The published labels are read for the scores alone.

    Parameters
    ----------
    counts
        CSV with `cell_id`, and one column of raw counts per gene.
    cells
        CSV with `cell_id` and `label`, in any order.
    lineages
        Tab-separated `label`, `lineage`; cells of a label without lineage are not scored.
    organ
        One of `ORGANS`.
    knowledge
        Marker table.
    clustering
        Quality control, number of components and their seed.
    labeling
        Annotator, lowest confidence of a label, and seed.

    Returns
    -------
    n_cells
        Scored cells.
    accuracy, macro_f1, coverage, selective_accuracy, selective_macro_f1
        As from `score_labels_table`.
    f1
        F1 of each lineage.
    mean_confidence, ece, auroc_of_error, accuracy_at_coverage
        As from `confidence_scores`, and from the function of that name.
    unscored_unresolved
        For each label without lineage, the share of its cells that is Unresolved.

    Raises
    ------
    UserError
        If a file lacks a column, a cell or a label, a count is not a count, or a lineage is unknown.
    """
    table = _read_counts(counts)
    published = _published(cells, lineages, table.obs_names)
    names = sorted(set(published["lineage"].dropna()))
    found = label_lineages(table, organ, names, knowledge, clustering, labeling, lineages)
    truth = published["lineage"].to_numpy(object)
    scored = published["lineage"].notna().to_numpy()
    scores: dict[str, Any] = {"n_cells": int(scored.sum())} | score_labels_table(truth, found["candidate"], found["label"])
    f1 = f1_score(truth[scored].astype(str), found["candidate"][scored].astype(str), labels=names, average=None, zero_division=0)
    right, confidence = (truth == found["candidate"])[scored].to_numpy(bool), found["confidence"][scored].to_numpy(float)
    scores |= confidence_scores(right, confidence)
    # None, because JSON has no NaN: a score without cells becomes null.
    scores = {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in scores.items()}
    unresolved = (found["label"] == UNRESOLVED)[~scored].groupby(published["label"][~scored]).mean()
    return scores | {
        "f1": dict(zip(names, map(float, f1), strict=True)),
        "accuracy_at_coverage": accuracy_at_coverage(right, confidence),
        "unscored_unresolved": unresolved.astype(float).to_dict(),
    }


def label_lineages(
    cells: ad.AnnData,
    organ: str,
    lineages: Sequence[str],
    knowledge: Path,
    clustering: ClusteringConfig,
    labeling: LabelingConfig,
    file: Path | str = "lineages",
) -> pd.DataFrame:
    """Assign one of `lineages` to each cell: columns `candidate`, `label` and `confidence`, one row per cell.

    `candidate` is the lineage before abstention. `label` is the same, or Unresolved where the confidence is too low. Cells that fail
    quality control have the candidate `NONE_OF_THESE` and are Unresolved.

    Parameters
    ----------
    cells
        Raw counts, cells × genes.
    organ
        One of `ORGANS`.
    lineages
        Lineages of another data set, by any name that `Hierarchy` contains.
    knowledge
        Marker table.
    clustering, labeling
        As for `score_counts`.
    file
        Where the lineages come from, for errors.
    """
    passed = totals(cells) >= max(clustering.min_transcripts, 1)
    logger.info("%d of %d cells pass quality control", passed.sum(), passed.size)
    kept = cells[passed].copy()
    panel = restrict_to_panel(read_markers(knowledge), organ, list(cells.var_names))
    # A copy, because `embed` normalises the counts in place.
    embedded = kept.copy()
    embed(embedded, clustering)
    expression = gather_expression(panel, sparse.csr_matrix(kept.X), embedded.obsm["X_pca"].astype(np.float64))
    mapped = HIERARCHY.map_to_lineages(panel.types, lineages, file)
    lineage_of_type = [mapped[name] or NONE_OF_THESE for name in panel.types]
    assignment = assign_calibrated(expression, annotator_named(labeling.annotator), lineage_of_type, labeling.seed)
    frame = pd.DataFrame({"candidate": NONE_OF_THESE, "label": UNRESOLVED, "confidence": 0.0}, index=cells.obs_names)
    frame.loc[passed, "candidate"] = np.asarray(lineage_of_type, object)[assignment.candidate]
    frame.loc[passed, "confidence"] = assignment.lineage_confidence
    sure = frame["confidence"] >= labeling.min_confidence
    frame.loc[sure, "label"] = frame["candidate"][sure]
    return frame


def _read_counts(path: Path) -> ad.AnnData:
    frame = _read_csv(path, ("cell_id",)).set_index("cell_id")
    try:
        x = frame.to_numpy(np.float32)
    except ValueError as error:
        raise UserError(path, "counts", f"not numbers ({error})", "Use raw counts, with one column per gene.") from None
    wrong = x[~np.isfinite(x) | (x < 0) | (x != np.rint(x))]
    if wrong.size:
        raise UserError(path, "counts", f"{wrong[0]:g} is not a count", "Use raw counts, with one column per gene.")
    if not frame.index.is_unique:
        raise UserError(path, "cell_id", f"{frame.index[frame.index.duplicated()][0]!r} occurs twice", "Keep one row per cell.")
    return ad.AnnData(sparse.csr_matrix(x), pd.DataFrame(index=frame.index), pd.DataFrame(index=frame.columns))


def _published(cells: Path, lineages: Path, names: pd.Index) -> pd.DataFrame:
    """Return label and lineage of each cell in `names`; no lineage where the cell is not scored."""
    labels = _read_csv(cells, ("cell_id", "label")).drop_duplicates("cell_id").set_index("cell_id")["label"]
    if missing := names.difference(labels.index).tolist():
        raise UserError(cells, "cell_id", f"cell {missing[0]!r} has no row", "Add a row for each cell of the counts.")
    lineage_of_label = _read_csv(lineages, ("label", "lineage"), "\t").set_index("label")["lineage"]
    frame = labels.loc[names].to_frame()
    if unknown := sorted(set(frame["label"]) - set(lineage_of_label.index)):
        raise UserError(
            lineages, "label", f"{unknown[0]!r} has no row", "Add one, with an empty lineage if its cells should not be scored."
        )
    return frame.assign(lineage=frame["label"].map(lineage_of_label).replace("", None))


def _read_csv(path: Path, columns: Sequence[str], separator: str = ",") -> pd.DataFrame:
    try:
        frame = pd.read_csv(require(path), sep=separator, dtype=dict.fromkeys(columns, str), keep_default_na=False)
    except READ_ERRORS as error:
        kind = "tab-separated" if separator == "\t" else "comma-separated"
        raise UserError(path, "file", f"cannot be read ({error})", f"Save it as {kind} UTF-8 text, gzipped or not.") from None
    if missing := [name for name in columns if name not in frame.columns]:
        raise UserError(path, missing[0], "the column is missing", f"Add it; the file needs {', '.join(columns)}.")
    return frame
