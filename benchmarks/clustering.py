"""Time and memory of clustering and marker ranking on planted types, and what is gained by comparing resolutions on a sample.

    python benchmarks/clustering.py [cells] [genes] [threads]

Counts are negative binomial, with about 150 transcripts in each of `cells` (100,000) cells of 20 types on a panel of `genes` (400). Each
stage runs in a process of its own, with the processes that it starts: `cluster_whole` compares the resolutions on all cells, in one
process, as for a slide of few cells; `cluster_sampled` is what the rule does, on `threads` (2). Then both are compared.
"""

import sys
import tempfile
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import NearestNeighbors
from stage import measure

from nuclass_pipeline.config.expression import ClusteringConfig
from nuclass_pipeline.expression import clustering
from nuclass_pipeline.expression.markers import rank_markers
from nuclass_pipeline.io import read_json

TYPES, DEPTH, DISPERSION, CHUNK = 20, 150, 2.0, 20_000
PROBES, NEAR = 2000, 30


def draw(cells: int, genes: int, rng: np.random.Generator) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Draw counts, (cells, genes), and the planted type of each cell. In each type a tenth of the panel is four times as frequent."""
    rates = rng.lognormal(0, 1, genes) * np.where(rng.random((TYPES, genes)) < 0.1, 4, 1)
    rates *= DEPTH / rates.sum(axis=1, keepdims=True)
    kind = rng.integers(0, TYPES, cells)
    # In chunks, because the dense rates of all cells would need more memory than the stages that are measured.
    parts = np.split(kind, range(CHUNK, cells, CHUNK))
    counts = [sparse.csr_matrix(rng.poisson(rng.gamma(DISPERSION, rates[part] / DISPERSION)).astype(np.float32)) for part in parts]
    return sparse.vstack(counts, format="csr"), kind


def cluster_sampled(folder: Path, threads: int) -> None:
    """Cluster as the rule does, into `sampled.parquet` and `sampled.json`."""
    _cluster(folder, "sampled", threads)


def cluster_whole(folder: Path) -> None:
    """Cluster with every resolution and seed on all cells, into `whole.parquet` and `whole.json`."""
    clustering.SAMPLE_CELLS = sys.maxsize
    _cluster(folder, "whole", 1)


def _cluster(folder: Path, name: str, threads: int) -> None:
    outputs = {"clusters": folder / f"{name}.parquet", "stability": folder / f"{name}.json"}
    clustering.cluster_cells(counts=folder / "counts.h5ad", config=ClusteringConfig(), threads=threads, **outputs)


def report(folder: Path, kind: np.ndarray) -> None:
    """Print what each way found, against the planted types and the other."""
    tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in ("whole", "sampled")}
    for name, table in tables.items():
        record, named = read_json(folder / f"{name}.json"), table["cluster"].notna()
        stabilities = ", ".join(f"{tried['resolution']:g}: {tried['stability']:.3f}" for tried in record["resolutions"])
        print(f"{name}: resolution {record['chosen']:g}; stability on {record['cells']} cells {stabilities}")
        agreement = adjusted_rand_score(kind[named], table["cluster"][named])
        print(f"    {table['cluster'].nunique()} clusters; agreement with the planted types (adjusted Rand index) {agreement:.3f}")
        print(
            f"    {kept_neighbors(table[named]):.3f} of the {NEAR} nearest cells by components are among the {10 * NEAR} nearest on the map"
        )
    whole, sampled = (table["cluster"].dropna() for table in tables.values())
    print(f"agreement of both (adjusted Rand index): {adjusted_rand_score(whole, sampled):.3f}")


def kept_neighbors(table: pd.DataFrame) -> float:
    """Return which share of the nearest cells by components lies near on the map, over some cells."""
    probes = np.random.default_rng(0).choice(len(table), min(PROBES, len(table)), replace=False)
    components, places = table.filter(like="pc_").to_numpy(), table[["umap_1", "umap_2"]].to_numpy()
    near, shown = (
        NearestNeighbors(n_neighbors=number + 1, algorithm=search).fit(points).kneighbors(points[probes], return_distance=False)
        for points, number, search in ((components, NEAR, "brute"), (places, 10 * NEAR, "kd_tree"))
    )
    return float(np.mean([np.isin(first[1:], second).mean() for first, second in zip(near, shown, strict=True)]))


def main() -> None:
    cells, genes, threads = (int(sys.argv[i]) if len(sys.argv) > i else usual for i, usual in ((1, 100_000), (2, 400), (3, 2)))
    counts, kind = draw(cells, genes, np.random.default_rng(0))
    print(f"{cells} cells, {genes} genes, {counts.nnz / cells:.0f} of them in a cell")
    names = pd.DataFrame(index=[f"cell{i}" for i in range(cells)]), pd.DataFrame(index=[f"GENE{i}" for i in range(genes)])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ad.AnnData(counts, *names).write_h5ad(folder / "counts.h5ad")
        del counts
        sampled, whole = measure(cluster_sampled, folder, threads), measure(cluster_whole, folder)
        print(
            f"sampled / whole: {sampled.seconds / whole.seconds:.2f} of the time, {sampled.cpu_seconds / whole.cpu_seconds:.2f} of the work"
        )
        report(folder, kind)
        inputs = {"counts": folder / "counts.h5ad", "clusters": folder / "sampled.parquet", "config": ClusteringConfig()}
        measure(rank_markers, **inputs, markers=folder / "markers.parquet", gene_scores=folder / "gene_scores.parquet")


if __name__ == "__main__":
    main()
