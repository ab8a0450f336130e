"""Stage `label_cells`: a label or Unresolved for each cell of a slide."""

import logging
from collections.abc import Sequence
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from nuclass_pipeline.arrays import Booleans, Floats
from nuclass_pipeline.config.labeling import LabelingConfig
from nuclass_pipeline.expression.counts import match_cells, read_counts, totals
from nuclass_pipeline.io import read_table, write_table
from nuclass_pipeline.knowledge.coverage import check_panel, coverage_warnings
from nuclass_pipeline.knowledge.markers import TYPES, Panel, read_markers, restrict_to_panel
from nuclass_pipeline.labeling.calibration import assign_calibrated
from nuclass_pipeline.labeling.confidence import NOT_A_CLASS, POOR_QUALITY, WEAK_SUPPORT, abstention_reasons
from nuclass_pipeline.labeling.evidence import annotator_named, gather_expression
from nuclass_pipeline.labeling.overrides import Provided, apply_edits, apply_provided, dropped_labels
from nuclass_pipeline.schemas import CLUSTERS, LABELS, empty_labels
from nuclass_pipeline.vocabulary import CLASSES, UNRESOLVED

logger = logging.getLogger(__name__)


def label_cells(
    *,
    counts: Path,
    clusters: Path,
    knowledge: Path,
    edits: Path | None = None,
    provided: Path | None = None,
    label_map: Path | None = None,
    names: Path | None = None,
    label_column: str | None = None,
    organ: str,
    classes: Sequence[str],
    config: LabelingConfig,
    labels: Path,
) -> None:
    """Write the label of each cell of a slide, or the reason why it has none.

    All types that occur in the organ compete for each cell; the type that dominates its transcripts wins. The names of the clusters have
    no influence. Edits and provided labels replace the label of a cell, not its evidence.

    Parameters
    ----------
    counts
        `counts.h5ad`: raw counts, cells × genes.
    clusters
        Table `CLUSTERS` with principal components; cells without a cluster failed quality control.
    knowledge
        Marker table, `config/markers.tsv`.
    edits
        A person's labels of clusters; see `apply_edits`.
    provided
        Labels from elsewhere; see `apply_provided`.
    label_map, names, label_column
        For `provided`: raw label → class, table of names, column of labels; see `Provided`.
    organ
        One of `ORGANS`; the types that it can hold are admissible.
    classes
        Classes of the study; any other label becomes Unresolved.
    config
        Annotator, lowest confidence of a label, and seed of the simulated doublets.
    labels
        Table `LABELS` to write, one row per cell in the order of `counts`.

    Raises
    ------
    UserError
        If an input is broken, a cell has no row in `clusters`, or the organ is unknown; without `provided`, also by `check_panel`.
    """
    cells = read_counts(counts)
    table, genes = match_cells(read_table(clusters, CLUSTERS), cells.obs_names, clusters), list(cells.var_names)
    panel = restrict_to_panel(read_markers(knowledge), organ, genes)
    if not provided:
        check_panel(panel, organ, genes, counts)
    by_hand = Provided(provided, label_map, label_column, names) if provided and label_map else None
    frame, about_names = _label_by_person(_label_by_evidence(cells, table, panel, config, classes), edits, by_hand, classes)
    # Last, because edits and provided labels may also name a class that the study leaves out.
    frame.loc[~frame["label"].isin([*classes, UNRESOLVED]), ["label", "reason"]] = (UNRESOLVED, NOT_A_CLASS)
    _log_counts(frame)
    warnings = [*coverage_warnings(panel, organ, genes), *about_names, *dropped_labels(frame)]
    write_table(frame[[column.name for column in LABELS.columns]], labels, LABELS, warnings)


def _label_by_evidence(
    cells: ad.AnnData, table: pd.DataFrame, panel: Panel, config: LabelingConfig, classes: Sequence[str]
) -> pd.DataFrame:
    """Return the columns of `LABELS` before edits and provided labels, one row per cell."""
    passed = table["cluster"].notna().to_numpy() & (totals(cells) > 0)
    frame = _without_evidence(table, passed).assign(source=config.annotator)
    if passed.any() and panel.types:
        components = table.filter(regex=r"^pc_\d+$").to_numpy(float)[passed]
        assigned = _assign(panel, cells.X[passed], components, config, classes)
        frame.loc[passed, assigned.columns] = assigned.to_numpy(object)
    # Back to numbers, because values that are assigned as objects make their columns objects.
    return frame.astype(dict.fromkeys(("confidence", "lineage_confidence", "support", "margin", "purity"), float))


def _label_by_person(
    frame: pd.DataFrame, edits: Path | None, provided: Provided | None, classes: Sequence[str]
) -> tuple[pd.DataFrame, list[str]]:
    own = [name for name in classes if name not in CLASSES]
    if edits:
        frame = apply_edits(frame, edits, own)
    return apply_provided(frame, provided, own) if provided else (frame, [])


def _without_evidence(table: pd.DataFrame, passed: Booleans) -> pd.DataFrame:
    """Return rows of `LABELS` with all cells Unresolved, and the reason that holds where no marker is on the panel."""
    frame = empty_labels(table["cell_id"].astype(str), WEAK_SUPPORT).assign(cluster=table["cluster"], lineage_confidence=0.0)
    frame.loc[~passed, "reason"] = POOR_QUALITY
    return frame


def _assign(panel: Panel, counts: sparse.csr_matrix, components: Floats, config: LabelingConfig, classes: Sequence[str]) -> pd.DataFrame:
    expression = gather_expression(panel, counts, components)
    assignment = assign_calibrated(expression, annotator_named(config.annotator), seed=config.seed)
    assignment = assignment.broadened(panel, config.min_confidence, classes)
    reasons = abstention_reasons(assignment, config.min_confidence)
    candidate = np.asarray(panel.types, dtype=object)[assignment.candidate]
    return pd.DataFrame(
        {
            "label": [UNRESOLVED if reason else name for reason, name in zip(reasons, candidate, strict=True)],
            "candidate": candidate,
            "lineage": [TYPES[name] for name in candidate],
            "confidence": assignment.confidence,
            "lineage_confidence": assignment.lineage_confidence,
            "support": assignment.support,
            "margin": assignment.margin,
            "purity": assignment.purity,
            "reason": pd.Series(reasons, dtype=object),
        }
    )


def _log_counts(frame: pd.DataFrame) -> None:
    counts = frame["label"].where(frame["reason"].isna(), frame["label"] + " (" + frame["reason"].fillna("") + ")").value_counts()
    logger.info("labels: %s", ", ".join(f"{name} {n}" for name, n in counts.items()))
