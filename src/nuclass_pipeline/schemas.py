"""Columns of every table the pipeline writes: the contract between stages, tests and docs."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from nuclass_pipeline.table_schema import Column, Table
from nuclass_pipeline.vocabulary import UNRESOLVED

_CELL = Column("cell_id", "text", "cell, unique within its slide")
_SLIDE = Column("slide", "text", "slide")
_LABEL = Column("label", "text", "class, or Unresolved")

CELLS = Table(
    "cells",
    (
        _CELL,
        Column("x_um", "number", "centroid, µm from the left of the Xenium morphology image; of the H&E for slides of kind image and trio"),
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
)
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
        Column("block", "text", "spatial block, the unit of the bootstrap"),
        Column("reason", "text", "why the cell has no image: outside the H&E, or no tissue; empty where it has one", optional=True),
    ),
    unique=("cell_id",),
)
PREDICTIONS = Table(
    "predictions",
    (
        _CELL,
        _LABEL,
        Column("subset", "text", "subset of the split"),
        Column("block", "text", "spatial block"),
        Column("x_um", "number", "µm"),
        Column("y_um", "number", "µm"),
        Column("padded", "flag", "the context window reaches over the edge of the image"),
        Column("predicted", "text", "argmax over all classes of the model"),
        Column("gate_weight", "number", "weight of the global path: 0 for local, 1 for global"),
    ),
    unique=("cell_id",),
    extra="p_<class>: uncalibrated probability of each class of the model; c_<class>: calibrated, and confidence: the highest of them "
    "(not for training slides, on which the calibration is fitted)",
)
WARNINGS = Table(
    "warnings",
    (
        Column("slide", "text", "slide; empty where a warning is about the run"),
        Column("stage", "text", "result that the warning is about, by its name in the list above"),
        Column("warning", "text", "what to know before the results are used"),
    ),
)
METRICS = Table(
    "metrics",
    (
        Column("run", "text", "run"),
        Column("model", "text", "local, global, gate, or a baseline's name"),
        Column("variant", "text", "raw or calibrated; temperature: fitted, before the choice; an ablation's name"),
        Column("seed", "integer", "seed of training"),
        Column("slide", "text", "slide, mean or pooled"),
        Column("organ", "text", "organ; all where slides are joined"),
        Column("label", "text", "class, or all"),
        Column("label_set", "text", "open: argmax over all classes of the model; closed: over those present on the slide"),
        Column("metric", "text", "accuracy, macro_f1, weighted_f1, f1, ece, brier, nll, …"),
        Column("value", "number", "value", optional=True),
        Column("ci_low", "number", "2.5 % bound, bootstrap over spatial blocks", optional=True),
        Column("ci_high", "number", "97.5 % bound", optional=True),
        Column("n_cells", "integer", "cells"),
    ),
)
COHORT = Table(
    "cohort",
    (
        Column("run", "text", "run"),
        _SLIDE,
        Column("organ", "text", "organ"),
        Column("role", "text", "train, heldout or label"),
        Column("subset", "text", "subset of the split; all where subsets are joined"),
        _LABEL,
        Column("cells", "integer", "cells"),
    ),
    unique=("slide", "subset", "label"),
)
RELIABILITY = Table(
    "reliability",
    (
        Column("run", "text", "run"),
        Column("model", "text", "local, global, gate, or a baseline's name"),
        Column("variant", "text", "raw or calibrated"),
        Column("seed", "integer", "seed of training"),
        Column("slide", "text", "slide or pooled"),
        Column("label_set", "text", "open or closed"),
        Column("bin", "integer", "bin of the highest probability, from 0"),
        Column("bin_low", "number", "lower edge, inside the bin"),
        Column("bin_high", "number", "upper edge, outside the bin save in the last"),
        Column("confidence", "number", "mean of the highest probability; empty for an empty bin", optional=True),
        Column("accuracy", "number", "share of cells that are right; empty for an empty bin", optional=True),
        Column("n_cells", "integer", "cells"),
    ),
    unique=("model", "variant", "seed", "slide", "label_set", "bin"),
)
REGISTRATION = Table(
    "registration",
    (
        _SLIDE,
        Column("organ", "text", "organ"),
        Column("mpp_he", "number", "µm per H&E pixel by the alignment"),
        Column("shift_x_um", "number", "shift that fits haematoxylin to nuclei best, µm"),
        Column("shift_y_um", "number", "µm"),
        Column("correlation", "number", "correlation of haematoxylin with nuclei at zero shift"),
        Column("correlation_best", "number", "the same at the best shift"),
        Column("verdict", "text", "good, shifted or unclear"),
        Column("thumbnail", "bytes", "PNG of the H&E with nuclei in it"),
    ),
    unique=("slide",),
)
QUALITY = Table(
    "quality",
    (
        _SLIDE,
        Column("organ", "text", "organ"),
        Column("role", "text", "train, heldout, predict or label"),
        Column("kind", "text", "synthetic, xenium, image or trio"),
        Column("cells", "integer", "cells"),
        Column("transcripts_median", "number", "median of the gene transcripts of a cell; empty for slides without Xenium", optional=True),
        Column("genes_median", "number", "median of the genes with a transcript in a cell; empty for slides without Xenium", optional=True),
        Column("panel_genes", "number", "genes on the panel; empty for slides without Xenium", optional=True),
        Column("cell_types", "number", "cell types that can occur in the organ; empty for slides without Xenium", optional=True),
        Column("cell_types_seen", "number", "those with a positive marker on the panel; empty for slides without Xenium", optional=True),
        Column("labelled", "integer", "cells with a label"),
        Column("unresolved", "text", "cells without a label, by reason: `poor quality 100; weak support 3`"),
        Column("nuclei", "number", "cells with a nucleus; empty where the files do not say", optional=True),
        Column("excluded", "number", "cells without an image, which are in no subset; empty for slides without a split", optional=True),
        Column("exclusions", "text", "the same by reason"),
        Column("tissue_share", "number", "share of the H&E that is tissue; empty for slides without H&E", optional=True),
        Column("verdict", "text", "registration: good, shifted, unclear or accepted; empty for slides without registration", optional=True),
        Column("correlation", "number", "correlation of haematoxylin with nuclei at the best shift", optional=True),
        Column("correlation_chance", "number", "the same of permuted regions", optional=True),
        Column("shift_um", "number", "length of the best shift, µm", optional=True),
        Column("cells_inside", "number", "share of the cells that lie on the H&E", optional=True),
    ),
    unique=("slide",),
)
RUNTIME = Table(
    "runtime",
    (
        Column("rule", "text", "rule"),
        Column("jobs", "integer", "jobs with a benchmark file"),
        Column("seconds", "number", "sum of their times, s"),
        Column("cpu_seconds", "number", "sum of their CPU times as sampled by Snakemake, s"),
        Column("peak_mb", "number", "largest resident memory of a job, MB; empty where no job was sampled", optional=True),
    ),
    unique=("rule",),
)
ATTRIBUTION = Table(
    "attribution",
    (
        _SLIDE,
        _CELL,
        _LABEL,
        Column("predicted", "text", "class whose evidence is shown"),
        Column("model", "text", "local or global"),
        Column("image", "bytes", "PNG of the crop"),
        Column("field_um", "number", "side of the crop, µm"),
        Column("heat", "list", "row-major square map, 0 to 1"),
    ),
)
TRUTH = Table(
    "truth",
    (_CELL, _LABEL, Column("niche", "text", "tissue compartment"), Column("poor", "flag", "too few transcripts to label")),
    unique=("cell_id",),
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
TABLES = (
    CELLS,
    CLUSTERS,
    MARKERS,
    GENE_SCORES,
    DOMAINS,
    PROGRAMS,
    LABELS,
    ABLATION,
    NUCLEI,
    SPLIT,
    PREDICTIONS,
    METRICS,
    COHORT,
    RELIABILITY,
    REGISTRATION,
    QUALITY,
    RUNTIME,
    WARNINGS,
    ATTRIBUTION,
    TRUTH,
)
