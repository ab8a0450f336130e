"""The label of each cell, by evidence."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.config.labeling import LabelingConfig
from nuclass_pipeline.expression.counts import match_cells, read_counts, totals
from nuclass_pipeline.io import read_parquet, write_table
from nuclass_pipeline.knowledge.markers import TYPES, Panel, read_markers, restrict_to_panel
from nuclass_pipeline.labeling.calibration import assign_calibrated
from nuclass_pipeline.labeling.confidence import NOT_A_CLASS, POOR_QUALITY, WEAK_SUPPORT, abstention_reasons
from nuclass_pipeline.labeling.evidence import fit_annotator, gather_expression
from nuclass_pipeline.labeling.overrides import apply_edits, apply_provided
from nuclass_pipeline.schemas import CLUSTERS, LABELS
from nuclass_pipeline.vocabulary import UNRESOLVED

logger = logging.getLogger(__name__)


def label_cells(
    *,
    counts: Path,
    clusters: Path,
    knowledge: Path,
    edits: Path | None = None,
    provided: Path | None = None,
    label_map: Path | None = None,
    organ: str,
    classes: Sequence[str],
    config: LabelingConfig,
    labels: Path,
) -> None:
    """Label every cell of a slide, or say why not.

    All types that occur in the organ compete for each cell, and a cell's type is that whose transcripts dominate it. A cell whose
    label, whoever gave it, is none of `classes` is Unresolved. The names of the clusters play no part. What a person says of a cell
    replaces its label, not what was measured.

    Parameters
    ----------
    counts
        `counts.h5ad`: raw counts, cells × genes.
    clusters
        Table `CLUSTERS` with principal components; cells without a cluster failed quality control.
    knowledge
        Marker table, `config/markers.tsv`.
    edits
        Labels that a person gave to clusters; see `apply_edits`.
    provided, label_map
        Labels from elsewhere, and the map from those to classes; see `apply_provided`.
    organ
        Decides which types may occur.
    classes
        Classes of the study: what a label may be.
    config
        The annotator, and the least confidence of a label.
    labels
        Table `LABELS`, one row per cell in the order of `counts`.
    """
    cells = read_counts(counts)
    table = read_parquet(clusters)
    CLUSTERS.check(table, clusters)
    table = match_cells(table, cells.obs_names, clusters)
    passed = table["cluster"].notna().to_numpy() & (totals(cells) > 0)
    panel = restrict_to_panel(read_markers(knowledge), organ, list(cells.var_names))
    frame = _without_evidence(table, passed).assign(source=config.annotator)
    if passed.any() and panel.types:
        components = table.filter(regex=r"^pc_\d+$").to_numpy(float)[passed]
        answers = _answer(panel, cells.X[passed], components, config)
        frame.loc[passed, answers.columns] = answers.to_numpy(object)
    frame = frame.astype(dict.fromkeys(("confidence", "lineage_confidence", "support", "margin", "purity"), float))
    if edits:
        frame = apply_edits(frame, edits)
    if provided and label_map:
        frame = apply_provided(frame, provided, label_map)
    frame.loc[~frame["label"].isin([*classes, UNRESOLVED]), ["label", "reason"]] = (UNRESOLVED, NOT_A_CLASS)
    _report(frame)
    write_table(frame[[column.name for column in LABELS.columns]], labels, LABELS)


def _without_evidence(table: pd.DataFrame, passed: NDArray[np.bool_]) -> pd.DataFrame:
    """Give every cell the label Unresolved, and the reason that holds as long as nothing more is known."""
    frame = pd.DataFrame({"cell_id": table["cell_id"].astype(str), "cluster": table["cluster"], "label": UNRESOLVED, "confidence": 0.0})
    for column in ("candidate", "lineage", "reason"):
        frame[column] = pd.Series([None] * len(frame), dtype=object)
    frame["lineage_confidence"] = 0.0
    frame[["support", "margin", "purity"]] = np.nan
    frame.loc[~passed, "reason"] = POOR_QUALITY
    frame.loc[passed, "reason"] = WEAK_SUPPORT
    return frame


def _answer(panel: Panel, counts: sparse.csr_matrix, components: Floats, config: LabelingConfig) -> pd.DataFrame:
    evidence = gather_expression(panel, counts, components)
    verdict = assign_calibrated(evidence, fit_annotator(config.annotator, evidence), seed=config.seed)
    why = abstention_reasons(verdict, config.min_confidence)
    candidate = np.asarray(panel.types, dtype=object)[verdict.candidate]
    return pd.DataFrame(
        {
            "label": [UNRESOLVED if reason else name for reason, name in zip(why, candidate, strict=True)],
            "candidate": candidate,
            "lineage": [TYPES[name] for name in candidate],
            "confidence": verdict.confidence,
            "lineage_confidence": verdict.group_confidence,
            "support": verdict.support,
            "margin": verdict.margin,
            "purity": verdict.purity,
            "reason": pd.Series(why, dtype=object),
        }
    )


def _report(frame: pd.DataFrame) -> None:
    counts = frame["label"].where(frame["reason"].isna(), frame["label"] + " (" + frame["reason"].fillna("") + ")").value_counts()
    logger.info("labels: %s", ", ".join(f"{name} {n}" for name, n in counts.items()))
