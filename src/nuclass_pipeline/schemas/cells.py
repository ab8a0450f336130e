"""Columns of the tables of one slide: cells, clusters, labels, nuclei, split."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from nuclass_pipeline.table_schema import Column, Table
from nuclass_pipeline.vocabulary import LINEAGES, UNRESOLVED

_CELL = Column("cell_id", "text", "cell, unique within its slide")
_LABEL = Column("label", "text", "class, or Unresolved")

CELLS = Table(
    "cells",
    (
        _CELL,
        Column("x_um", "number", "centroid, µm from the left of the Xenium morphology image; of the H&E for slides of other kinds"),
        Column("y_um", "number", "centroid, µm from its top"),
        Column("cell_area_um2", "number", "cell area, µm²", optional=True),
        Column("nucleus_area_um2", "number", "nucleus area, µm²; empty where no nucleus was found", optional=True),
        Column("transcripts", "integer", "gene transcripts with qv ≥ 20"),
        Column(
            "nucleus_transcripts",
            "number",
            "transcripts over the nucleus; empty where the bundle does not say",
            optional=True,
        ),
        Column("controls", "integer", "control probes and codewords"),
    ),
    unique=("cell_id",),
    extra="case, image: where the cell comes from, for slides of kind images",
)
ANY_CELLS = Table(
    "cells",
    tuple(replace(column, optional=column.optional or column.name in ("x_um", "y_um")) for column in CELLS.columns),
    unique=("cell_id",),
)
"""The same of cells that may have no coordinates, which `nuclass label` takes too."""
CLUSTERS = Table(
    "clusters",
    (
        _CELL,
        Column("cluster", "text", "Leiden cluster; empty for cells that fail quality control", optional=True),
        Column("umap_1", "number", "first map coordinate", optional=True),
        Column("umap_2", "number", "second map coordinate", optional=True),
    ),
    unique=("cell_id",),
    extra="pc_1 … pc_n: principal components",
)
MARKERS = Table(
    "markers",
    (
        Column("cluster", "text", "Leiden cluster"),
        Column("gene", "text", "gene symbol"),
        Column("rank", "integer", "1 is the strongest"),
        Column("score", "number", "Wilcoxon z"),
        Column("log2fc", "number", "log2 fold change against all other cells"),
        Column("fraction_in", "number", "share of the cluster's cells with the gene"),
        Column("fraction_out", "number", "share of all other cells with the gene"),
        Column("p_adjusted", "number", "Benjamini–Hochberg"),
    ),
    unique=("cluster", "gene"),
)
GENE_SCORES = Table(
    "gene_scores",
    (
        Column("cluster", "text", "Leiden cluster"),
        Column("gene", "text", "gene symbol"),
        Column("score", "number", "Wilcoxon z against all other cells; empty with fewer than two cells inside or outside", optional=True),
    ),
    unique=("cluster", "gene"),
)
PROGRAMS = Table(
    "programs",
    (
        Column("cluster", "text", "Leiden cluster"),
        Column("rank", "integer", "1 is the strongest program; 0 if none is reliable, in the cluster's only row"),
        Column("name", "text", "program, or no reliable program"),
        Column("named_by", "text", "slim: name of a slim term; term: name of the best term, where there is no slim", optional=True),
        Column("slim_id", "text", "slim term", optional=True),
        Column("term_id", "text", "best supporting term, to which statistic, p_value, q_value and size belong", optional=True),
        Column("method", "text", "ranked or ora"),
        Column("statistic", "number", "ranked: normalised enrichment score; ora: fold enrichment", optional=True),
        Column("p_value", "number", "p of the term", optional=True),
        Column("q_value", "number", "Benjamini–Hochberg over all sets tested", optional=True),
        Column("n_tests", "integer", "sets tested: all that are eligible on the panel"),
        Column("size", "integer", "genes of the term on the panel"),
        Column("genes", "text", "genes of the cluster that carry the program, joined by ;", optional=True),
        Column("terms", "text", "supporting terms, best first, joined by ;", optional=True),
        Column("go_codes", "text", "GO evidence codes of those genes in those terms, joined by ;", optional=True),
        Column("weight", "number", "number of supporting terms; a term under several slim terms is shared equally"),
        Column("reason", "text", "why no program is reliable", optional=True),
    ),
    unique=("cluster", "rank"),
)
DOMAINS = Table(
    "domains",
    (
        _CELL,
        Column("domain", "text", "domain, 0 the largest (mode contact: cell group); empty for cells without transcripts", optional=True),
    ),
    unique=("cell_id",),
    extra="factor_1 … factor_k: weights of the smoothed factors",
)
LABELS = Table(
    "labels",
    (
        _CELL,
        Column("cluster", "text", "Leiden cluster; empty for cells that fail quality control", optional=True),
        _LABEL,
        Column("candidate", "text", "most probable admissible cell type, before abstention", optional=True),
        Column("lineage", "text", "lineage of the candidate", optional=True),
        Column("confidence", "number", "of the candidate, 0 to 1"),
        Column("lineage_confidence", "number", "of its lineage, 0 to 1; may be high where the candidate's is not", optional=True),
        Column("support", "number", "evidence for the candidate", optional=True),
        Column("margin", "number", "candidate minus runner-up", optional=True),
        Column("purity", "number", "weighted share of expression neighbours with the same lineage", optional=True),
        Column("reason", "text", "why the cell is Unresolved; empty where it has a label", optional=True),
        Column("source", "text", "name of the annotator, or a person (edit, provided), whose labels have confidence 1 or 0", optional=True),
    ),
    unique=("cell_id",),
)


def empty_labels(cell_ids: Iterable[str], reason: str | None = None) -> pd.DataFrame:
    """Return a table `LABELS` in which every cell is Unresolved with confidence 0, for `reason`; other columns are empty."""
    frame = pd.DataFrame({"cell_id": list(cell_ids)})
    for column in LABELS.columns[1:]:
        empty, dtype = (np.nan, float) if column.kind == "number" else (None, object)
        frame[column.name] = pd.Series([empty] * len(frame), dtype=dtype)
    return frame.assign(label=UNRESOLVED, confidence=0.0, reason=pd.Series([reason] * len(frame), dtype=object))


def provided_labels(cell_ids: Iterable[str], labels: Sequence[str]) -> pd.DataFrame:
    """Return a table `LABELS` of cells that came with a label each: confidence 1, or 0 where it is Unresolved."""
    frame = empty_labels(cell_ids, "no class for the raw label").assign(label=list(labels), source="provided")
    labelled = frame["label"] != UNRESOLVED
    frame.loc[labelled, "candidate"] = frame["label"][labelled]
    frame["lineage"] = pd.Series([LINEAGES.get(name) for name in labels], dtype=object)
    frame["confidence"] = frame["lineage_confidence"] = labelled.astype(float)
    frame.loc[labelled, "reason"] = None
    return frame


LABEL_EXPORT = Table(
    "label_export",
    (
        *ANY_CELLS.pick("cell_id", "x_um", "y_um"),
        *LABELS.pick("label"),
        Column("cl_id", "text", "Cell Ontology id of the label; empty for Unresolved and for classes of the study's own", optional=True),
        *LABELS.pick("lineage", "confidence", "cluster"),
        *DOMAINS.pick("domain"),
        *LABELS.pick("reason"),
    ),
    unique=("cell_id",),
)
ABLATION = Table(
    "ablation",
    (
        Column("annotator", "text", "rules or llm-score"),
        Column("answer", "text", "constrained: one of the admissible labels is chosen; free: the language model writes a name"),
        Column("evidence", "text", "all, without markers, without support, without programs, without composition, or none"),
        Column("n_clusters", "integer", "clusters; the shares are of these, and empty if there is none"),
        Column("invalid_rate", "number", "share whose answer names no admissible label", optional=True),
        Column("permutation_stability", "number", "share with the same answer to the labels in reversed order", optional=True),
        Column("abstained", "number", "share without a proposal: tied, no admissible label, or supported as well by chance", optional=True),
        Column("accuracy", "number", "share of proposals that are the commonest true label of their cluster", optional=True),
        Column("accuracy_cells", "number", "the same, each cluster weighted by its cells", optional=True),
    ),
    unique=("annotator", "answer", "evidence"),
)
NUCLEI = Table(
    "nuclei",
    (
        _CELL,
        Column("polygon_um", "list", "closed outline: x and y in turn, µm in the frame of the centroids"),
    ),
    unique=("cell_id",),
)
SPLIT = Table(
    "split",
    (
        _CELL,
        Column("subset", "text", "train, gate, val, buffer (cells between two subsets), heldout, or excluded (cells without image)"),
        Column("block", "text", "spatial block, or case of a slide of kind images: the unit of the bootstrap"),
        Column("reason", "text", "why the cell has no image: outside the H&E, or no tissue; empty where it has one", optional=True),
    ),
    unique=("cell_id",),
)
TRUTH = Table(
    "truth",
    (_CELL, _LABEL, Column("niche", "text", "tissue compartment"), Column("poor", "flag", "too few transcripts to label")),
    unique=("cell_id",),
)
