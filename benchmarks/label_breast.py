"""Score the labels of 8,568 published breast-cancer cells by lineage: `python benchmarks/label_breast.py`.

Data: Janesick et al. 2023, Xenium FFPE Rep1, in `breast_rep1_labelled` of `NUCLASS_TEST_DATA` (default ../shared/data). The published
labels are only read to score; hybrids and unlabelled cells are not scored, and are best left Unresolved.
"""

import os
import tempfile
import time
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from nuclass_pipeline.config.study import ClusteringConfig, LabelingConfig
from nuclass_pipeline.labeling.clustering import cluster_cells
from nuclass_pipeline.labeling.labels import label_cells
from nuclass_pipeline.labeling.score import agreement
from nuclass_pipeline.vocabulary import CLASSES, UNRESOLVED

ROOT = Path(__file__).parents[1]
LINEAGE = {
    "B_Cell": "B",
    "Dendritic_Cell": "Dendritic",
    "Endothelial": "Endothelial",
    "Endothelial_TumorAssociated": "Endothelial",
    "Epithelial_Malignant": "Epithelial",
    "Fibroblast": "Stromal",
    "Macrophage": "Macrophage",
    "Mast_Cell": "Mast",
    "Monocyte": "Macrophage",
    "Myoepithelial": "Myoepithelial",
    "NK_Cell": "T",
    "Pericyte": "Perivascular",
    "Plasma_Cell": "B",
    "Smooth_Muscle": "Perivascular",
    "T_Cell": "T",
    "Tumor_Associated_Fibroblast": "Stromal",
}
"""The lineage, as published, of each type; Adipocyte and Neutrophil have none and count as wrong."""


def prepare(data: Path, folder: Path) -> pd.Series:
    """Write `counts.h5ad` into `folder`, and give the published lineage of each cell, None where it is not scored."""
    counts = pd.read_csv(data / "counts.csv.gz", index_col="cell_id")
    names = pd.DataFrame(index=counts.index.astype(str))
    x = sparse.csr_matrix(counts.to_numpy(np.float32))
    ad.AnnData(x, names, pd.DataFrame(index=counts.columns)).write_h5ad(folder / "counts.h5ad")
    published = pd.read_csv(data / "cells.csv.gz", index_col="cell_id").loc[counts.index, "label"]
    lineages = pd.read_csv(data / "lineages.tsv", sep="\t", index_col="label")["lineage"]
    lineage = published.map(lineages).set_axis(names.index)
    return lineage.where(lineage.notna(), None)


def label(folder: Path) -> pd.DataFrame:
    """Cluster and label the cells in `folder`, and say how long each took."""
    counts, clusters, labels = folder / "counts.h5ad", folder / "clusters.parquet", folder / "labels.parquet"
    start = time.perf_counter()
    cluster_cells(counts=counts, config=ClusteringConfig(), clusters=clusters)
    middle = time.perf_counter()
    paths = {"counts": counts, "clusters": clusters, "knowledge": ROOT / "config/markers.tsv", "labels": labels}
    label_cells(organ="breast", classes=CLASSES, config=LabelingConfig(), **paths)
    print(f"cluster_cells {middle - start:.1f} s, label_cells {time.perf_counter() - middle:.1f} s")
    return pd.read_parquet(labels)


def score(lineage: pd.Series, labels: pd.DataFrame) -> dict[str, float]:
    """Score by lineage; a sure Myoepithelial cell is labelled here, although no class of a study."""
    candidate = labels["candidate"].map(LINEAGE).fillna("other")
    sure = labels["reason"].isna() | (labels["reason"] == "not a class of the study")
    scores = agreement(lineage, candidate, candidate.where(sure, UNRESOLVED))
    hybrids = lineage.isna().to_numpy()
    return {**scores, "unscored_unresolved": float((~sure)[hybrids].mean())}


def main() -> None:
    data = Path(os.environ.get("NUCLASS_TEST_DATA", ROOT.parent / "shared/data")) / "breast_rep1_labelled"
    with tempfile.TemporaryDirectory() as folder:
        lineage = prepare(data, Path(folder))
        for name, value in score(lineage, label(Path(folder))).items():
            print(f"{name:22s} {value:.3f}")


if __name__ == "__main__":
    main()
