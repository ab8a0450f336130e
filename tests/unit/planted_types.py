"""A small slide with planted types: the markers of each, on top of a background that all cells share."""

from collections.abc import Callable, Mapping
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from nuclass_pipeline.config.expression import ClusteringConfig
from nuclass_pipeline.config.labeling import LabelingConfig
from nuclass_pipeline.io import read_table, write_table
from nuclass_pipeline.schemas import CLUSTERS, LABELS
from nuclass_pipeline.vocabulary import CLASSES

PLANTED_GENES = {
    "T_Cell": "CD3D CD3E CD3G TRAC CD2 IL7R CD8A CD28 TRBC1 TRBC2 LTB TIGIT",
    "B_Cell": "MS4A1 CD19 CD79A CD79B BANK1 TCL1A PAX5 FCMR",
    "Macrophage": "CD68 CD163 C1QA C1QB C1QC MS4A7 MRC1 MSR1 CD14 AIF1 CSF1R MS4A4A",
    "Epithelial_Malignant": "EPCAM KRT8 KRT18 KRT19 CDH1 CLDN4 CEACAM6 MUC1 TACSTD2 ELF3 CD24 MKI67",
    "Fibroblast": "DCN LUM PDGFRA PI16 DPT MFAP5 CCDC80 FBLN1 OGN SCARA5 C7 IGF1",
    "Tumor_Associated_Fibroblast": "FAP POSTN COL11A1 COL10A1 THBS2 MMP11 CTHRC1 INHBA ASPN SFRP2 SFRP4 LRRC15",
    "Endothelial": "PECAM1 VWF CDH5 CLDN5 CLEC14A EGFL7 ERG RAMP2 MMRN2 EMCN",
}
POOR = 12


def draw(
    seed: int = 0,
    per_type: int = 60,
    depth: float = 120,
    purity: float = 0.6,
    without: tuple[str, ...] = (),
    planted: Mapping[str, str] = PLANTED_GENES,
) -> ad.AnnData:
    """Draw a slide; the last `POOR` cells have three transcripts. `obs["truth"]` has the type."""
    rng = np.random.default_rng(seed)
    names = {name: genes.split() for name, genes in planted.items()}
    genes = [*sorted({gene for listed in names.values() for gene in listed}), *(f"OTHER{i}" for i in range(60))]
    background = rng.lognormal(0, 1, len(genes))
    truth = np.repeat(list(names), per_type)
    rates = np.empty((len(truth), len(genes)))
    for i, name in enumerate(truth):
        own = np.isin(genes, names[name]) * 1.0
        rates[i] = depth * rng.lognormal(0, 0.3) * (purity * own / own.sum() + (1 - purity) * background / background.sum())
    counts = rng.poisson(rates)
    counts[-POOR:] = 0
    counts[-POOR:, 0] = 3
    order = rng.permutation(len(truth))
    kept = ~np.isin(genes, without)
    obs = pd.DataFrame({"truth": truth[order], "poor": order >= len(truth) - POOR}, index=[f"cell{i}" for i in range(len(truth))])
    cells = ad.AnnData(sparse.csr_matrix(counts[order][:, kept].astype(np.float32)), obs, pd.DataFrame(index=np.array(genes)[kept]))
    cells.obsm["spatial"] = rng.uniform(0, 1000, (len(truth), 2))
    return cells


def write_planted_clusters(folder: Path, cells: ad.AnnData, components: int = 10) -> Path:
    """Write `counts.h5ad`, and `clusters.parquet` with a cluster for each planted type; return the folder.

    For tests that need a table of clusters, but not the clustering: its first run compiles for more than ten seconds.
    """
    cells.write_h5ad(folder / "counts.h5ad")
    counts = cells.X.toarray().astype(float)
    depth = counts.sum(axis=1)
    passed = depth >= ClusteringConfig().min_transcripts
    name = {label: str(i) for i, label in enumerate(cells.obs["truth"][passed].value_counts().index)}
    frame = pd.DataFrame(
        {"cell_id": cells.obs_names, "cluster": cells.obs["truth"].astype(object).map(name).where(passed, None).to_numpy()}
    )
    frame[["umap_1", "umap_2"]] = np.nan
    frame[[f"pc_{i + 1}" for i in range(components)]] = 0.0
    frame.loc[passed, frame.columns[4:]] = _principal_components(counts[passed], components)
    write_table(frame, folder / "clusters.parquet", CLUSTERS)
    return folder


def _principal_components(counts: np.ndarray, n: int) -> np.ndarray:
    """Compute principal components of logged expression, (cells, n); columns beyond the rank are 0."""
    depth = counts.sum(axis=1, keepdims=True)
    logged = np.log1p(counts / depth * np.median(depth))
    u, s, _ = np.linalg.svd(logged - logged.mean(axis=0), full_matrices=False)
    found = np.zeros((len(counts), n))
    found[:, : min(n, len(s))] = (u * s)[:, :n]
    return found


def label_function(slide: Path, markers: Path) -> Callable[..., pd.DataFrame]:
    """Return a function that labels the cells of `slide` into the folder `out`; its arguments replace the usual ones."""
    from nuclass_pipeline.labeling.stage import label_cells

    def label(out: Path, folder: Path = slide, **other: object) -> pd.DataFrame:
        files = {"counts": folder / "counts.h5ad", "clusters": folder / "clusters.parquet", "knowledge": markers}
        usual = {"organ": "lung", "classes": CLASSES, "config": LabelingConfig()}
        label_cells(**(files | usual | other), labels=out / "labels.parquet")
        return read_table(out / "labels.parquet", LABELS)

    return label
