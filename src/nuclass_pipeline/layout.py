"""Where every file of a run lies: rules, stages and docs/outputs.md take the paths from here."""

from dataclasses import dataclass
from types import SimpleNamespace


@dataclass(frozen=True)
class ResultFile:
    """One output below `results/<run>/`: its path, with wildcards in braces and the run's sizes in `<>`, and what it holds."""

    path: str
    meaning: str

    @property
    def is_shared(self) -> bool:
        """Whether runs can share it: a file of a slide in which no trained model has a part."""
        return self.path.startswith("slides/") and "{seed}" not in self.path

    @property
    def in_rules(self) -> str:
        """Its path as rules write it."""
        return f"<slides>{self.path.removeprefix('slides')}" if self.is_shared else f"<results>/{self.path}"


RESULTS: dict[str, ResultFile] = {
    "run_file": ResultFile("config.yaml", "the run file as checked, with all defaults"),
    "manifest": ResultFile("manifest.json", "versions, commit, machine, hashes of the inputs"),
    "cells": ResultFile("slides/{slide}/cells.parquet", "cells: centroids, areas, transcripts"),
    "counts": ResultFile("slides/{slide}/counts.h5ad", "gene counts, rows in the order of cells.parquet"),
    "registration": ResultFile("slides/{slide}/registration.json", "where the H&E lies, and how well it fits the nuclei"),
    "image": ResultFile("slides/{slide}/image.h5", "the H&E at the target pixel size, as a pyramid"),
    "tissue_png": ResultFile("slides/{slide}/tissue.png", "the outline of the tissue on the H&E"),
    "clusters": ResultFile("slides/{slide}/clusters.parquet", "expression clusters, principal components, map"),
    "clustering": ResultFile("slides/{slide}/clustering.json", "the resolutions tried, and how stable each was"),
    "markers": ResultFile("slides/{slide}/markers.parquet", "markers of each cluster"),
    "gene_scores": ResultFile("slides/{slide}/gene_scores.parquet", "Wilcoxon z of every gene in every cluster"),
    "domains": ResultFile("slides/{slide}/domains.parquet", "spatial domains"),
    "domain_scores": ResultFile("slides/{slide}/domain_scores.parquet", "how distinct the domains are"),
    "programs": ResultFile("slides/{slide}/programs.parquet", "gene programs of each cluster, if the run file names a library"),
    "labels": ResultFile("slides/{slide}/labels.parquet", "label or Unresolved per cell, with its evidence"),
    "labels_csv": ResultFile(
        "slides/{slide}/labels.csv", "label, place, cluster and domain per cell for spreadsheets; columns of label_export"
    ),
    "labels_h5ad": ResultFile("slides/{slide}/labels.h5ad", "the same for scanpy: AnnData with raw counts, centroids in µm and the map"),
    "proposals": ResultFile("slides/{slide}/proposals.tsv", "a proposed label per cluster with its evidence, for review"),
    "ablation": ResultFile("slides/{slide}/ablation.parquet", "proposals with less evidence and by other annotators; target `ablation`"),
    "label_report": ResultFile("slides/{slide}/label_report.pdf", "maps, markers, composition and abstentions of the labels"),
    "label_report_png": ResultFile("slides/{slide}/label_report.png", "the same as a picture"),
    "nuclei": ResultFile("slides/{slide}/nuclei.parquet", "outlines of the nuclei of an H&E without Xenium"),
    "nuclei_png": ResultFile("slides/{slide}/nuclei.png", "a picture of those outlines"),
    "split": ResultFile("slides/{slide}/split.parquet", "subset of the split, and bootstrap block, per cell"),
    "local_patches": ResultFile("slides/{slide}/patches_<local_px>x<local_px>.h5", "local crops; 224x224 by default"),
    "context_patches": ResultFile("slides/{slide}/patches_<context_px>x<context_px>.h5", "context windows; 1024x1024 by default"),
    "further_patches": ResultFile("slides/{slide}/patches_{px}x{px}.h5", "windows of another side, which variants need"),
    "annotations": ResultFile("slides/{slide}/annotations.json", "cells and classes of the patches, for other programs"),
    "variant_labels": ResultFile("variants/{variant}/slides/{slide}/labels.parquet", "labels of a variant that labels otherwise"),
    "variant_split": ResultFile("variants/{variant}/slides/{slide}/split.parquet", "split of a variant that labels or splits otherwise"),
    "window_features": ResultFile("slides/{slide}/features/{encoder}.{px}.{key}.h5", "features of a frozen encoder, by side of the window"),
    "cell_features": ResultFile("slides/{slide}/features/cells.{variant}.seed-{seed}.h5", "features and probabilities of both paths"),
    "checkpoint": ResultFile("models/{variant}/{model}/seed-{seed}/best.ckpt", "weights with the best validation macro-F1"),
    "history": ResultFile("models/{variant}/{model}/seed-{seed}/history.parquet", "loss and macro-F1 of every validation"),
    "predictions": ResultFile("predictions/{variant}/{model}/seed-{seed}/{slide}.parquet", "probabilities of every class per cell"),
    "temperatures": ResultFile(
        "models/{variant}/temperatures.parquet", "temperature of each model and seed, 1 where calibration does not hold"
    ),
    "calibration_metrics": ResultFile(
        "metrics/{variant}/calibration.parquet", "temperatures, the losses that chose them, and scores on their cells"
    ),
    "heldout_metrics": ResultFile("metrics/{variant}/heldout.parquet", "scores on the held-out slides"),
    "reliability_metrics": ResultFile("metrics/{variant}/reliability.parquet", "accuracy by confidence"),
    "complementarity_metrics": ResultFile("metrics/{variant}/complementarity.parquet", "what each path gets right, and the gate's gain"),
    "variant_metrics": ResultFile("metrics/variants.parquet", "scores of each variant, and its differences from the base"),
    "warnings": ResultFile("metrics/warnings.parquet", "what to know before the results are used, of all slides and of the run"),
    "cohort_metrics": ResultFile("metrics/cohort.parquet", "cells by slide, subset and class"),
    "registration_metrics": ResultFile("metrics/registration.parquet", "fit of each H&E, with a thumbnail"),
    "quality_metrics": ResultFile("metrics/quality.parquet", "cells, transcripts, labels, panel, tissue and registration of each slide"),
    "runtime_metrics": ResultFile("metrics/runtime.parquet", "time and memory of each rule"),
    "overview_metrics": ResultFile("metrics/overviews.parquet", "the H&E of each slide, small, in the frame of its cells"),
    "point_image_metrics": ResultFile("metrics/point_images.parquet", "a few of the held-out images with points, of kind `images`"),
    "label_metrics": ResultFile("metrics/labels.parquet", "accuracy of the labels of synthetic slides"),
    "attribution_metrics": ResultFile("metrics/{variant}/attribution/seed-{seed}/{slide}.parquet", "where the paths look, for a few cells"),
    "figure": ResultFile("figures/{figure}.pdf", "figures"),
    "figure_png": ResultFile("figures/{figure}.png", "the same as pictures"),
    "table": ResultFile("tables/{table}.tsv", "tables, all digits kept"),
    "table_tex": ResultFile("tables/{table}.tex", "the same for LaTeX, rounded"),
    "report": ResultFile("report.html", "everything on one page"),
}

TARGETS: dict[str, str] = {
    "all": "everything; what plain `snakemake` makes",
    "slides": "labels, proposals, domains and label reports of all slides with Xenium; no model",
    "labels": "the same, and the labels as CSV and AnnData",
    "classification": "predictions for the slides under `study.predict`",
    "figures": "all figures",
    "figure_<name>": "one figure",
    "fig<number>": "one figure, by its number in the run file",
    "tables": "all tables",
    "table_<name>": "one table",
    "tab<number>": "one table, by its number in the run file",
    "ablation": "proposals with less evidence and by other annotators; not part of `all`",
    "build_report": "the report",
}
"""Target → what it makes."""

files = SimpleNamespace(**{name: file.in_rules for name, file in RESULTS.items()})
"""The paths as rules write them: `files.cells` is `<slides>/{slide}/cells.parquet`, `files.report` is `<results>/report.html`."""


BASE = "base"
"""Variant that is the run file as written; the others are compared with it."""

USUAL_PX = (224, 1024)
"""Sides of crops and context windows in the public data sets, and in results of versions in which they could not be chosen, px."""


def patch_file(side_px: int) -> str:
    """Return the name of a patch file."""
    return f"patches_{side_px}x{side_px}.h5"


def of_base(path: str) -> str:
    """Return a path of `files` for the base variant, its other wildcards as they are."""
    return path.replace("{variant}", BASE)


def for_model(path: str, model: str) -> str:
    """Return a path of `files` for one model, its other wildcards as they are."""
    return path.replace("{model}", model)


UNPACKED_MANIFEST = "resources/unpacked/{slide}/experiment.xenium"
SYNTHETIC_TRUTH = "resources/synthetic/{slide}/truth.parquet"
