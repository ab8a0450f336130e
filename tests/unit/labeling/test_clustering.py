"""Clusters follow planted types, cover every cell, and never fail for want of cells."""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

from nuclass_pipeline.config.study import ClusteringConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_table
from nuclass_pipeline.labeling.clustering import cluster_cells
from nuclass_pipeline.schemas import CLUSTERS


def _cluster(folder: Path, cells: ad.AnnData, **config: int) -> pd.DataFrame:
    cells.write_h5ad(folder / "counts.h5ad")
    cluster_cells(counts=folder / "counts.h5ad", config=ClusteringConfig(**config), clusters=folder / "clusters.parquet")
    return pd.read_parquet(folder / "clusters.parquet")


def test_clusters_follow_the_planted_types(slide):
    truth, found = ad.read_h5ad(slide / "counts.h5ad").obs, read_table(slide / "clusters.parquet", CLUSTERS)
    assert list(found["cell_id"]) == list(truth.index)
    good = ~truth["poor"].to_numpy()
    assert adjusted_rand_score(truth["truth"][good], found["cluster"][good]) > 0.95


def test_poor_cells_keep_their_row_and_have_no_cluster(slide):
    poor = ad.read_h5ad(slide / "counts.h5ad").obs["poor"].to_numpy()
    found = pd.read_parquet(slide / "clusters.parquet")
    assert (found["cluster"].isna().to_numpy() == poor).all()
    assert (found["umap_1"].isna().to_numpy() == poor).all()
    assert found["pc_1"].dtype == np.float32
    assert found.filter(like="pc_").shape[1] == 10


def test_same_input_same_bytes(slide, tmp_path):
    again = _cluster(tmp_path, ad.read_h5ad(slide / "counts.h5ad"), components=10)
    pd.testing.assert_frame_equal(again, pd.read_parquet(slide / "clusters.parquet"))


@pytest.mark.parametrize("n", [0, 1, 3, 11, 23])
def test_a_handful_of_cells_is_enough(draw_cells, tmp_path, n):
    cells = draw_cells()
    found = _cluster(tmp_path, cells[~cells.obs["poor"]][:n].copy())
    assert len(found) == n
    assert found["cluster"].notna().all()


@pytest.mark.parametrize(("genes", "transcripts"), [(50, 30), (5000, 30), (5000, 430)])
def test_few_transcripts_in_23_cells(tmp_path, genes, transcripts):
    rng = np.random.default_rng(0)
    counts = np.zeros((23, genes), np.float32)
    np.add.at(counts, (rng.integers(0, 15, transcripts), rng.integers(0, genes, transcripts)), 1)
    names = pd.DataFrame(index=[f"c{i}" for i in range(23)]), pd.DataFrame(index=[f"g{i}" for i in range(genes)])
    cells = ad.AnnData(sparse.csr_matrix(counts), *names)
    assert _cluster(tmp_path, cells)["cluster"].notna().sum() == (counts.sum(1) >= 10).sum()
    assert len(_cluster(tmp_path, cells, min_transcripts=0)) == 23


def test_large_panels_are_cut_to_variable_genes(draw_cells, tmp_path):
    cells = draw_cells(per_type=20)
    rng = np.random.default_rng(1)
    extra = sparse.csr_matrix(rng.poisson(0.02, (cells.n_obs, 2200)).astype(np.float32))
    genes = pd.DataFrame(index=[*cells.var_names, *(f"x{i}" for i in range(2200))])
    wide = ad.AnnData(sparse.hstack([cells.X, extra]).tocsr(), cells.obs, genes)
    found = _cluster(tmp_path, wide, components=10)
    good = ~cells.obs["poor"].to_numpy()
    assert found["cluster"][good].nunique() >= 4


def test_normalised_values_are_refused(draw_cells, tmp_path):
    cells = draw_cells()
    cells.X = cells.X * np.float32(0.5)
    with pytest.raises(UserError, match="no counts"):
        _cluster(tmp_path, cells)


def test_a_cell_that_occurs_twice_is_refused(draw_cells, tmp_path):
    cells = draw_cells()
    cells.obs_names = ["cell0", *cells.obs_names[:-1]]
    with pytest.raises(UserError, match="'cell0' occurs twice"):
        _cluster(tmp_path, cells)
