"""Peak memory of the rules that grow with the cells of a slide, on a synthetic slide; `tests/expected/peaks.tsv` keeps what it printed.

    python benchmarks/peaks.py [--cells 200000] [--genes 400] [--steps expression patches]

The steps `expression` start from a bundle with 120 transcripts in a cell, the steps `patches` from tables of cells at random places.
Each stage runs in a process of its own, which is measured whole, imports and processes below it included, as a cluster does.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from stage import measure

# All other imports in the functions, because the process of a stage must not load what its rule does not load.
KNOWLEDGE = Path(__file__).parents[1] / "config/markers.tsv"
TRANSCRIPTS, ORGAN, SLIDE, MODELS = 120, "lung", "s", ("local", "global", "gate")


def write_expression(folder: Path, cells: int, genes: int) -> None:
    """Write a bundle."""
    from scale import write_bundle

    write_bundle(folder, cells, genes, TRANSCRIPTS * cells)


def write_patches(folder: Path, cells: int, genes: int) -> None:
    """Write an image and the tables of its cells."""
    from memory import write_slide

    write_slide(folder, cells)


def read(folder: Path) -> None:
    from nuclass_pipeline.data.xenium.read import read_cells

    read_cells(manifest=folder / "experiment.xenium", cells=folder / "read.parquet", counts=folder / "counts.h5ad")


def rename_genes(folder: Path) -> None:
    """Give the genes the names of markers, because labels are made from markers."""
    import anndata as ad
    import pandas as pd

    counts = ad.read_h5ad(folder / "counts.h5ad")
    markers = pd.read_csv(KNOWLEDGE, sep="\t", comment="#")["gene"].drop_duplicates().tolist()
    counts.var_names = (markers + list(counts.var_names))[: counts.n_vars]
    counts.write_h5ad(folder / "counts.h5ad")


def cluster(folder: Path) -> None:
    """Cluster at one resolution, because the others take time and no memory beyond it."""
    from nuclass_pipeline.config.expression import ClusteringConfig
    from nuclass_pipeline.expression.clustering import cluster_cells

    outputs = {"clusters": folder / "clusters.parquet", "stability": folder / "clustering.json"}
    cluster_cells(counts=folder / "counts.h5ad", config=ClusteringConfig(resolutions=(0.6,)), threads=2, **outputs)


def rank(folder: Path) -> None:
    from nuclass_pipeline.config.expression import ClusteringConfig
    from nuclass_pipeline.expression.markers import rank_markers

    paths = {name: folder / f"{name}.parquet" for name in ("clusters", "markers", "gene_scores")}
    rank_markers(counts=folder / "counts.h5ad", cells=folder / "read.parquet", config=ClusteringConfig(), **paths)


def domains(folder: Path) -> None:
    from nuclass_pipeline.config.expression import DomainsConfig
    from nuclass_pipeline.expression.domains.stage import find_domains

    outputs = {"domains": folder / "domains.parquet", "scores": folder / "domain_scores.parquet"}
    inputs = {"counts": folder / "counts.h5ad", "cells": folder / "read.parquet"}
    find_domains(**inputs, **outputs, config=DomainsConfig(), run="r", slide=SLIDE, organ=ORGAN)


def label(folder: Path) -> None:
    from nuclass_pipeline.config.labeling import LabelingConfig
    from nuclass_pipeline.labeling.stage import label_cells

    inputs = {"counts": folder / "counts.h5ad", "clusters": folder / "clusters.parquet", "knowledge": KNOWLEDGE}
    label_cells(**inputs, organ=ORGAN, classes=(), config=LabelingConfig(), labels=folder / "labels.parquet")


def propose(folder: Path) -> None:
    from nuclass_pipeline.config.labeling import ProposalsConfig
    from nuclass_pipeline.proposals.propose import propose_labels

    tables = {name: folder / f"{name}.parquet" for name in ("clusters", "markers", "labels")}
    inputs = {"counts": folder / "counts.h5ad", "knowledge": KNOWLEDGE}
    propose_labels(**inputs, **tables, organ=ORGAN, config=ProposalsConfig(), threads=1, proposals=folder / "proposals.tsv")


def export(folder: Path) -> None:
    from nuclass_pipeline.export.labels import export_labels

    tables = {name: folder / f"{name}.parquet" for name in ("clusters", "domains", "labels")}
    outputs = {"labels_csv": folder / "labels.csv", "labels_h5ad": folder / "labels.h5ad"}
    export_labels(counts=folder / "counts.h5ad", cells=folder / "read.parquet", **tables, **outputs, run="r", slide=SLIDE, organ=ORGAN)


def cut(folder: Path) -> None:
    from nuclass_pipeline.config.image import ImageConfig
    from nuclass_pipeline.data.image.patches import extract_patches

    tables = {name: folder / f"{name}.parquet" for name in ("cells", "labels")}
    inputs = {"image": folder / "image.h5", "registration": folder / "registration.json"}
    outputs = {"local": folder / "patches_224x224.h5", "context": folder / "patches_1024x1024.h5", "annotations": folder / "a.json"}
    extract_patches(**inputs, **tables, **outputs, slide=SLIDE, organ=ORGAN, config=ImageConfig())


def split(folder: Path) -> None:
    from nuclass_pipeline.config.evaluation import SplitConfig
    from nuclass_pipeline.config.image import ImageConfig
    from nuclass_pipeline.data.splits import split_cells

    tables = {name: folder / f"{name}.parquet" for name in ("cells", "labels")}
    files = {"patches": folder / "patches_224x224.h5", "registration": folder / "registration.json"}
    split_cells(**tables, **files, role="train", config=SplitConfig(buffer_um=0), image=ImageConfig(), split=folder / "made.parquet")


def predictions(folder: Path) -> dict[str, Any]:
    return {"predictions": [folder / f"{model}/seed-0/{SLIDE}.parquet" for model in MODELS], "run": "r", "seeds": [0], "slides": [SLIDE]}


def calibrate(folder: Path) -> None:
    from nuclass_pipeline.config.evaluation import EvaluationConfig
    from nuclass_pipeline.evaluate.calibration import calibrate_models

    calibrate_models(**predictions(folder), models=MODELS, config=EvaluationConfig(), calibration=folder / "calibration.parquet")


def hold_out(folder: Path) -> None:
    """Call all cells held out, because only such cells are scored."""
    import pandas as pd

    from nuclass_pipeline.io import write_table
    from nuclass_pipeline.schemas import PREDICTIONS

    for path in predictions(folder)["predictions"]:
        write_table(pd.read_parquet(path).assign(subset="heldout"), path, PREDICTIONS)


def score(folder: Path) -> None:
    from nuclass_pipeline.config.evaluation import EvaluationConfig
    from nuclass_pipeline.evaluate.heldout import score_predictions

    outputs = {"heldout": folder / "heldout.parquet", "reliability": folder / "reliability.parquet"}
    named = {"models": MODELS, "organs": {SLIDE: ORGAN}, "calibration": folder / "calibration.parquet"}
    score_predictions(**predictions(folder), **named, config=EvaluationConfig(), **outputs)


def compare(folder: Path) -> None:
    from nuclass_pipeline.config.evaluation import EvaluationConfig
    from nuclass_pipeline.evaluate.comparison import compare_paths

    named = {"organs": {SLIDE: ORGAN}, "complementarity": folder / "complementarity.parquet"}
    compare_paths(**predictions(folder), **named, config=EvaluationConfig())


def fit(folder: Path) -> None:
    from nuclass_pipeline.evaluate.temperatures import fit_temperatures

    tables = {"labels": [folder / "labels.parquet"], "splits": [folder / "split.parquet"]}
    models = {"features": [folder / "cells.seed-0.h5"], "checkpoints": [folder / "gate.ckpt"]}
    fit_temperatures(**models, **tables, seeds=[0], run="r", temperatures=folder / "temperatures.parquet")


def embed(folder: Path) -> None:
    from memory import write_path_outputs

    write_path_outputs(folder)


def gate(folder: Path) -> None:
    from memory import fit_gate

    fit_gate(folder)


def predict(folder: Path) -> None:
    from memory import predict

    predict(folder)
    for model in MODELS:
        place = folder / f"{model}/seed-0/{SLIDE}.parquet"
        place.parent.mkdir(parents=True)
        (folder / f"{model}-predictions.parquet").rename(place)


Work = Callable[..., Any]
EXPRESSION: dict[str, Work] = {
    "read_cells": read,
    "_genes": rename_genes,
    "cluster_cells": cluster,
    "rank_markers": rank,
    "find_domains": domains,
    "label_cells": label,
    "propose_labels": propose,
    "export_labels": export,
}
"""Rule → its stage; names with _ are no rules."""
PATCHES: dict[str, Work] = {
    "extract_patches": cut,
    "split_cells": split,
    "_features": embed,
    "train_gate": gate,
    "fit_temperatures": fit,
    "predict_slide": predict,
    "calibrate_models": calibrate,
    "_heldout": hold_out,
    "score_predictions": score,
    "compare_paths": compare,
}


def peaks(stages: dict[str, Work], folder: Path) -> Iterator[tuple[str, float]]:
    """Yield each rule with the peak of its stage, MB."""
    for rule, work in stages.items():
        try:
            cost = measure(work, folder)
        except SystemExit as failed:
            print(f"{rule}: {failed}", flush=True)
            continue
        if not rule.startswith("_"):
            yield rule, 1000 * cost.peak_gb


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=200_000)
    parser.add_argument("--genes", type=int, default=400)
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=list(STEPS))
    options = parser.parse_args()
    found = []
    for step in options.steps:
        write, stages = STEPS[step]
        with tempfile.TemporaryDirectory() as name:
            measure(write, Path(name), options.cells, options.genes)
            for rule, peak_mb in peaks(stages, Path(name)):
                found.append(f"{rule}\t{options.cells}\t{options.genes}\t{peak_mb:.0f}")
    print("\n".join(["rule\tcells\tgenes\tpeak_mb", *found]))


STEPS: dict[str, tuple[Work, dict[str, Work]]] = {"expression": (write_expression, EXPRESSION), "patches": (write_patches, PATCHES)}

if __name__ == "__main__":
    main()
