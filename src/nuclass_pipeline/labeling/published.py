"""A trial of the labels on cells that others have labelled: their lineages, our evidence, and how far both agree."""

import logging
from collections.abc import Mapping, Sequence
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
from nuclass_pipeline.io import require
from nuclass_pipeline.knowledge.markers import assign, read_markers, restrict_to_panel
from nuclass_pipeline.labeling.accuracy import accuracy_at_coverage, score_labels_table
from nuclass_pipeline.labeling.calibration import assign_calibrated
from nuclass_pipeline.labeling.evidence import fit_annotator, gather_expression
from nuclass_pipeline.vocabulary import UNRESOLVED

logger = logging.getLogger(__name__)

NONE_OF_THESE = "none of these"
"""Lineage of types that belong to none of those the cells were labelled with."""


def score_counts(
    *, counts: Path, cells: Path, lineages: Path, organ: str, knowledge: Path, clustering: ClusteringConfig, labeling: LabelingConfig
) -> dict[str, Any]:
    """Label the cells of a count table, and compare with published labels by lineage.

    The published labels are read for the comparison alone.

    Parameters
    ----------
    counts
        CSV: `cell_id`, and one column of raw counts per gene.
    cells
        CSV: `cell_id` and `label`, in any order.
    lineages
        Tab-separated `label`, `lineage`; cells of a label without lineage are not scored.
    organ
        One of `ORGANS`.
    knowledge
        Marker table.
    clustering, labeling
        Quality control, components and seed; annotator and least confidence.

    Returns
    -------
    `accuracy` and `macro_f1` of the forced choice, `coverage`, `selective_accuracy` of the labels given, their number `n`, `f1` of each
    lineage, `accuracy_at_coverage` of the surest cells, and for each label that is not scored the share of its cells left Unresolved,
    `unscored_unresolved`.

    Raises
    ------
    UserError
        If a file lacks a column, a cell or a label, counts are no counts, or a lineage is unknown.
    """
    table = _read_counts(counts)
    published = _published(cells, lineages, table.obs_names)
    wanted = sorted(set(published["lineage"].dropna()))
    found = label_lineages(table, organ, wanted, knowledge, clustering, labeling, lineages)
    truth = published["lineage"].to_numpy(object)
    scores: dict[str, Any] = {"n": int(published["lineage"].notna().sum()), **score_labels_table(truth, found["candidate"], found["label"])}
    scored = published["lineage"].notna().to_numpy()
    f1 = f1_score(truth[scored].astype(str), found["candidate"][scored].astype(str), labels=wanted, average=None, zero_division=0)
    surest = accuracy_at_coverage((truth == found["candidate"])[scored].to_numpy(bool), found["confidence"][scored].to_numpy())
    # JSON has no NaN: a score without cells is null.
    scores = {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in scores.items()}
    unresolved = (found["label"] == UNRESOLVED)[~scored].groupby(published["label"][~scored]).mean()
    return scores | {
        "f1": dict(zip(wanted, map(float, f1), strict=True)),
        "accuracy_at_coverage": surest,
        "unscored_unresolved": unresolved.astype(float).to_dict(),
    }


def label_lineages(
    cells: ad.AnnData,
    organ: str,
    wanted: Sequence[str],
    knowledge: Path,
    clustering: ClusteringConfig,
    labeling: LabelingConfig,
    file: Path | str = "lineages",
) -> pd.DataFrame:
    """Give each cell one of the `wanted` lineages: `candidate` whatever happens, `label` if it is sure, and `confidence`.

    Cells that fail quality control have no candidate.
    """
    passed = totals(cells) >= max(clustering.min_transcripts, 1)
    logger.info("%d of %d cells pass quality control", passed.sum(), passed.size)
    kept = cells[passed].copy()
    panel = restrict_to_panel(read_markers(knowledge), organ, list(cells.var_names))
    embedded = kept.copy()
    embed(embedded, clustering)
    evidence = gather_expression(panel, sparse.csr_matrix(kept.X), embedded.obsm["X_pca"].astype(np.float64))
    homes: Mapping[str, str | None] = assign(panel.types, wanted, file=str(file))
    groups = [homes[name] or NONE_OF_THESE for name in panel.types]
    verdict = assign_calibrated(evidence, fit_annotator(labeling.annotator, evidence), groups, labeling.seed)
    frame = pd.DataFrame({"candidate": NONE_OF_THESE, "label": UNRESOLVED, "confidence": 0.0}, index=cells.obs_names)
    frame.loc[passed, "candidate"] = np.asarray(groups, object)[verdict.candidate]
    frame.loc[passed, "confidence"] = verdict.group_confidence
    sure = frame["confidence"] >= labeling.min_confidence
    frame.loc[sure, "label"] = frame["candidate"][sure]
    return frame


def _read_counts(path: Path) -> ad.AnnData:
    frame = _read_csv(path, ("cell_id",)).set_index("cell_id")
    try:
        x = frame.to_numpy(np.float32)
    except ValueError as error:
        raise UserError(path, "counts", f"not numbers ({error})", "Give raw counts, a column per gene.") from None
    if not np.isfinite(x).all() or (x < 0).any() or (x != np.rint(x)).any():
        raise UserError(path, "counts", "holds values that are no counts", "Give raw counts, a column per gene.")
    if not frame.index.is_unique:
        raise UserError(path, "cell_id", f"{frame.index[frame.index.duplicated()][0]!r} occurs twice", "Name every cell once.")
    return ad.AnnData(sparse.csr_matrix(x), pd.DataFrame(index=frame.index), pd.DataFrame(index=frame.columns))


def _published(cells: Path, lineages: Path, names: pd.Index) -> pd.DataFrame:
    """Return label and lineage of each cell in `names`; no lineage where the cell is not scored."""
    labels = _read_csv(cells, ("cell_id", "label")).drop_duplicates("cell_id").set_index("cell_id")["label"]
    if missing := names.difference(labels.index).tolist():
        raise UserError(cells, "cell_id", f"cell {missing[0]!r} has no row", "Every cell with counts needs a label.")
    homes = _read_csv(lineages, ("label", "lineage"), "\t").set_index("label")["lineage"]
    frame = labels.loc[names].to_frame()
    if unknown := sorted(set(frame["label"]) - set(homes.index)):
        raise UserError(lineages, "label", f"{unknown[0]!r} has no row", "Add it, with an empty lineage if it is not to be scored.")
    return frame.assign(lineage=frame["label"].map(homes).replace("", None))


def _read_csv(path: Path, columns: Sequence[str], separator: str = ",") -> pd.DataFrame:
    try:
        frame = pd.read_csv(require(path), sep=separator, dtype=dict.fromkeys(columns, str), keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(path, "file", f"cannot be read ({error})", "Give a CSV file, gzipped or not.") from None
    if missing := [name for name in columns if name not in frame.columns]:
        raise UserError(path, missing[0], "the column is missing", f"The file needs {', '.join(columns)}.")
    return frame
