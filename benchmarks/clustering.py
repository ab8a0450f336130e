"""Time and memory of clustering and marker ranking on planted types.

    python benchmarks/clustering.py [cells] [genes]

Counts are negative binomial, with about 150 transcripts in each of `cells` (100,000) cells of 20 types on a panel of `genes` (400). Each
stage runs in a process of its own.
"""

import sys
import tempfile
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.metrics import adjusted_rand_score
from stage import measure

from nuclass_pipeline.config.expression import ClusteringConfig
from nuclass_pipeline.expression.clustering import cluster_cells
from nuclass_pipeline.expression.markers import rank_markers

TYPES, DEPTH, DISPERSION, CHUNK = 20, 150, 2.0, 20_000


def draw(cells: int, genes: int, rng: np.random.Generator) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Draw counts, (cells, genes), and the planted type of each cell. In each type a tenth of the panel is four times as frequent."""
    rates = rng.lognormal(0, 1, genes) * np.where(rng.random((TYPES, genes)) < 0.1, 4, 1)
    rates *= DEPTH / rates.sum(axis=1, keepdims=True)
    kind = rng.integers(0, TYPES, cells)
    # In chunks, because the dense rates of all cells would need more memory than the stages that are measured.
    parts = np.split(kind, range(CHUNK, cells, CHUNK))
    counts = [sparse.csr_matrix(rng.poisson(rng.gamma(DISPERSION, rates[part] / DISPERSION)).astype(np.float32)) for part in parts]
    return sparse.vstack(counts, format="csr"), kind


def main() -> None:
    cells = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    genes = int(sys.argv[2]) if len(sys.argv) > 2 else 400
    counts, kind = draw(cells, genes, np.random.default_rng(0))
    print(f"{cells} cells, {genes} genes, {counts.nnz / cells:.0f} of them in a cell")
    names = pd.DataFrame(index=[f"cell{i}" for i in range(cells)]), pd.DataFrame(index=[f"GENE{i}" for i in range(genes)])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ad.AnnData(counts, *names).write_h5ad(folder / "counts.h5ad")
        inputs = {"counts": folder / "counts.h5ad", "config": ClusteringConfig(), "clusters": folder / "clusters.parquet"}
        measure(cluster_cells, **inputs, stability=folder / "clustering.json")
        print((folder / "clustering.json").read_text())
        measure(rank_markers, **inputs, markers=folder / "markers.parquet", gene_scores=folder / "gene_scores.parquet")
        found = pd.read_parquet(folder / "clusters.parquet", columns=["cluster"])["cluster"]
    print(f"agreement with the planted types (adjusted Rand index): {adjusted_rand_score(kind[found.notna()], found.dropna()):.3f}")


if __name__ == "__main__":
    main()
