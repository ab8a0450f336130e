"""Slides with known labels for `labels.py`: the published breast slide, and others made of it, as of other platforms and compositions."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

from nuclass_pipeline.config.expression import ClusteringConfig
from nuclass_pipeline.expression.clustering import embed
from nuclass_pipeline.knowledge.markers import Panel, read_markers, restrict_to_panel

ROOT = Path(__file__).parents[1]
ORGAN, MIN_TRANSCRIPTS, RESOLUTION = "breast", 10, 2.0
TYPES_OF = {
    "DCIS_1": "Epithelial_Malignant",
    "DCIS_2": "Epithelial_Malignant",
    "Invasive_Tumor": "Epithelial_Malignant",
    "Prolif_Invasive_Tumor": "Epithelial_Malignant",
    "Myoepi_ACTA2+": "Myoepithelial",
    "Myoepi_KRT15+": "Myoepithelial",
    "Stromal": "Fibroblast Tumor_Associated_Fibroblast",
    "Endothelial": "Endothelial Endothelial_TumorAssociated",
    "Perivascular-Like": "Pericyte Smooth_Muscle",
    "CD4+_T_Cells": "T_Cell",
    "CD8+_T_Cells": "T_Cell",
    "B_Cells": "B_Cell Plasma_Cell",
    "Macrophages_1": "Macrophage Monocyte",
    "Macrophages_2": "Macrophage Monocyte",
    "IRF7+_DCs": "Dendritic_Cell",
    "LAMP3+_DCs": "Dendritic_Cell",
    "Mast_Cells": "Mast_Cell",
}
"""Published label → cell types that it may mean."""


@dataclass(frozen=True)
class Case:
    """A slide with known labels.

    Attributes
    ----------
    name
        What was made of the breast slide.
    counts
        Raw counts, (cells, genes).
    panel
        Marker weights of its genes.
    genes
        Symbols, (genes,).
    lineage, label
        Published lineage and label of each cell, (cells,); no lineage where it is not scored.
    components
        Principal components, (cells, n).
    clusters
        Leiden clusters, (cells,).
    """

    name: str
    counts: sparse.csr_matrix
    panel: Panel
    genes: tuple[str, ...]
    lineage: pd.Series
    label: pd.Series
    components: np.ndarray
    clusters: np.ndarray

    @property
    def scored(self) -> np.ndarray:
        """Whether each cell is scored, (cells,)."""
        return self.lineage.notna().to_numpy()


def read_breast() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the counts of the breast slide, (cells, genes), and a table with `x`, `y`, `label` and `lineage` of the same cells."""
    folder = Path(os.environ.get("NUCLASS_TEST_DATA", ROOT.parent / "shared/data")) / "breast_rep1_labelled"
    counts = pd.read_csv(folder / "counts.csv.gz").set_index("cell_id")
    cells = pd.read_csv(folder / "cells.csv.gz").set_index("cell_id").loc[counts.index]
    lineages = pd.read_csv(folder / "lineages.tsv", sep="\t").set_index("label")["lineage"]
    return counts, cells.rename(columns={"aligned_x": "x", "aligned_y": "y"}).assign(lineage=cells["label"].map(lineages))


def make_cases(seed: int = 0) -> Iterator[Case]:
    """Yield the breast slide and nine slides that are made of it."""
    counts, cells = read_breast()
    x, genes, rng = sparse.csr_matrix(counts.to_numpy(float)), list(counts.columns), np.random.default_rng(seed)
    lineage = cells["lineage"].fillna("none").to_numpy()

    def gain(center: float, spread: float) -> np.ndarray:
        """Yields of another platform."""
        return np.clip(np.exp(rng.normal(center, spread, len(genes))), 0.02, 1)

    def kept(shares: dict[str, float], other: float) -> np.ndarray:
        return rng.random(len(cells)) < np.array([shares.get(name, other) for name in lineage])

    yield make("breast slide", x, genes, cells)
    half = (cells["x"] > cells["x"].median()).to_numpy()
    yield make("right half", x[half], genes, cells[half])
    yield make("other gains", thin(x, gain(-1.2, 1), rng), genes, cells)
    some = np.sort(rng.choice(len(genes), 180, replace=False))
    yield make("other gains, 180 genes", thin(x, gain(-1.2, 1), rng)[:, some], [genes[i] for i in some], cells)
    yield make("40 % local background", blur(x, cells, 0.4, 15, rng), genes, cells)
    yield make("55 % background, gains", thin(blur(x, cells, 0.55, 40, rng), gain(-0.5, 1), rng), genes, cells)
    yield make("30 % flat background, gains", flatten(thin(x, gain(-0.8, 0.8), rng), 0.3, rng), genes, cells)
    few = kept({"Stromal": 1}, 0.15)
    yield make("85 % stroma", x[few], genes, cells[few])
    few = kept({"Epithelial": 1, "Myoepithelial": 1}, 0.12)
    yield make("75 % epithelium", x[few], genes, cells[few])
    few = kept({"T": 1, "B": 1}, 0.1)
    yield make("70 % lymphocytes, gains", thin(x[few], gain(-0.8, 0.8), rng), genes, cells[few])


def thin(counts: sparse.csr_matrix, share: np.ndarray | float, rng: np.random.Generator) -> sparse.csr_matrix:
    """Keep each transcript with the probability of its gene."""
    kept = counts.tocsr().copy()
    kept.data = rng.binomial(kept.data.astype(int), np.broadcast_to(share, counts.shape[1])[kept.indices]).astype(float)
    kept.eliminate_zeros()
    return kept


def blur(counts: sparse.csr_matrix, cells: pd.DataFrame, share: float, k: int, rng: np.random.Generator) -> sparse.csr_matrix:
    """Exchange a share of the transcripts of each cell for those of the k cells around it."""
    near = NearestNeighbors(n_neighbors=k).fit(cells[["x", "y"]]).kneighbors(return_distance=False)
    mean = sparse.csr_matrix((np.full(near.size, 1 / k), near.ravel(), np.arange(0, near.size + 1, k)), shape=(len(near), len(near)))
    return exchange(counts, share, (mean @ counts).toarray(), rng)


def flatten(counts: sparse.csr_matrix, share: float, rng: np.random.Generator) -> sparse.csr_matrix:
    """Exchange a share of the transcripts of each cell for those of random genes."""
    return exchange(counts, share, np.ones(counts.shape), rng)


def exchange(counts: sparse.csr_matrix, share: float, profile: np.ndarray, rng: np.random.Generator) -> sparse.csr_matrix:
    kept = thin(counts, 1 - share, rng)
    lost = np.asarray(counts.sum(axis=1) - kept.sum(axis=1)).ravel().astype(int)
    profile = profile + 1e-9
    return sparse.csr_matrix(kept + sparse.csr_matrix(rng.multinomial(lost, profile / profile.sum(axis=1, keepdims=True)).astype(float)))


def make(name: str, counts: sparse.csr_matrix, genes: list[str], cells: pd.DataFrame) -> Case:
    """Embed and cluster the cells that pass quality control."""
    passed = np.asarray(counts.sum(axis=1)).ravel() >= MIN_TRANSCRIPTS
    counts, cells = sparse.csr_matrix(counts[passed]), cells[passed]
    embedded = ad.AnnData(counts.astype(np.float32))
    embed(embedded, ClusteringConfig())
    sc.pp.neighbors(embedded, use_rep="X_pca", random_state=0)
    sc.tl.leiden(embedded, resolution=RESOLUTION, flavor="igraph", n_iterations=2, random_state=0)
    panel = restrict_to_panel(read_markers(ROOT / "config/markers.tsv"), ORGAN, genes)
    clusters = embedded.obs["leiden"].astype(int).to_numpy()
    components = embedded.obsm["X_pca"].astype(float)
    return Case(name, counts, panel, tuple(genes), cells["lineage"], cells["label"], components, clusters)
