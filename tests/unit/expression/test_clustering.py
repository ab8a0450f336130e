"""Clusters follow planted types, cover every cell, and need no minimum number of cells."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from pydantic import ValidationError
from scipy import sparse
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import kneighbors_graph

from nuclass_pipeline.config.expression import ClusteringConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.expression.clustering import cluster_cells
from nuclass_pipeline.expression.partitions import LeidenPartition, compare_seeds, leiden, most_stable, seeded_resolutions
from nuclass_pipeline.io import read_json, read_table
from nuclass_pipeline.schemas import CLUSTERS


def _cluster(folder: Path, cells: ad.AnnData, **config: Any) -> pd.DataFrame:
    cells.write_h5ad(folder / "counts.h5ad")
    cluster_cells(
        counts=folder / "counts.h5ad",
        config=ClusteringConfig(**config),
        clusters=folder / "clusters.parquet",
        stability=folder / "clustering.json",
    )
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


def test_cells_with_one_gene_form_one_cluster(tmp_path):
    names = pd.DataFrame(index=[f"c{i}" for i in range(40)]), pd.DataFrame(index=["g"])
    cells = ad.AnnData(sparse.csr_matrix(np.full((40, 1), 20, np.float32)), *names)
    assert _cluster(tmp_path, cells)["cluster"].tolist() == ["0"] * 40


def test_large_panels_are_cut_to_variable_genes(draw_cells, tmp_path):
    cells = draw_cells(per_type=20)
    rng = np.random.default_rng(1)
    extra = sparse.csr_matrix(rng.poisson(0.02, (cells.n_obs, 2200)).astype(np.float32))
    genes = pd.DataFrame(index=[*cells.var_names, *(f"x{i}" for i in range(2200))])
    wide = ad.AnnData(sparse.hstack([cells.X, extra]).tocsr(), cells.obs, genes)
    found = _cluster(tmp_path, wide, components=10)
    good = ~cells.obs["poor"].to_numpy()
    assert found["cluster"][good].nunique() >= 4


def test_normalized_values_are_refused(draw_cells, tmp_path):
    cells = draw_cells()
    cells.X = cells.X * np.float32(0.5)
    with pytest.raises(UserError, match=r"X: holds 0.5, which is not a count. Store raw counts"):
        _cluster(tmp_path, cells)


def test_a_cell_that_occurs_twice_is_refused(draw_cells, tmp_path):
    cells = draw_cells()
    cells.obs_names = ["cell0", *cells.obs_names[:-1]]
    with pytest.raises(UserError, match="'cell0' occurs twice"):
        _cluster(tmp_path, cells)


def _compare(graph: sparse.csr_matrix, config: ClusteringConfig) -> list[LeidenPartition]:
    return compare_seeds([leiden(graph, *run) for run in seeded_resolutions(config)], config)


@pytest.fixture(scope="module")
def blobs():
    """Return the graph of eight far-apart groups of 60 points in ten dimensions, and the groups."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(8), 60)
    points = (rng.normal(size=(8, 10))[group] * 8 + rng.normal(size=(480, 10))).astype(np.float32)
    links = kneighbors_graph(points, 14)
    return sparse.csr_matrix(links.maximum(links.T)), group


def test_planted_groups_are_stable_and_a_random_split_of_them_is_not(blobs):
    graph, group = blobs
    planted, split = _compare(graph, ClusteringConfig(resolutions=(0.6, 8.0)))
    assert adjusted_rand_score(group, planted.cluster) == 1
    assert planted.stability == 1
    assert split.cluster.max() > 20
    assert split.stability < 0.9
    assert most_stable([split, planted]) is planted


def test_the_stability_is_the_mean_agreement_of_the_seeds(blobs):
    runs = [_compare(blobs[0], ClusteringConfig(resolutions=(8.0,), seed=seed))[0].cluster for seed in (4, 5, 6)]
    pairs = [adjusted_rand_score(runs[i], runs[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    found = _compare(blobs[0], ClusteringConfig(resolutions=(0.6, 8.0), repeats=3, seed=4))[1]
    assert found.stability == pytest.approx(np.mean(pairs), abs=1e-12)
    assert (found.cluster == runs[0]).all()


def test_clusters_are_numbered_by_size(blobs):
    graph, group = blobs
    kept = np.flatnonzero((group != 3) | (np.arange(480) % 2 == 0))
    sizes = np.bincount(_compare(graph[kept][:, kept], ClusteringConfig(resolutions=(0.6,)))[0].cluster)
    assert list(sizes) == [60] * 7 + [30]


@pytest.mark.parametrize(
    ("stabilities", "chosen"), [((1.0, 0.995, 0.8), 0.8), ((0.9, 0.95, 0.93), 0.8), ((0.97, 0.8, 0.7), 0.4), ((None,), 0.4)]
)
def test_the_finest_of_equally_stable_resolutions_is_chosen(stabilities, chosen):
    tried = [LeidenPartition(r, np.zeros(3, np.int64), s) for r, s in zip((0.4, 0.8, 1.2), stabilities, strict=False)]
    assert most_stable(tried).resolution == chosen
    assert most_stable(tried[::-1]).resolution == chosen


def test_the_record_says_what_was_tried(slide, tmp_path):
    config = ClusteringConfig(components=10, resolutions=(0.5, 30.0))
    cluster_cells(counts=slide / "counts.h5ad", config=config, clusters=tmp_path / "c.parquet", stability=tmp_path / "c.json")
    record = read_json(tmp_path / "c.json")
    coarse, fine = record["resolutions"]
    assert record["chosen"] == coarse["resolution"] == 0.5
    assert record["cells"] == pd.read_parquet(tmp_path / "c.parquet")["cluster"].notna().sum()
    assert coarse["clusters"] == pd.read_parquet(tmp_path / "c.parquet")["cluster"].nunique() == 7
    assert fine["clusters"] > 30
    assert fine["stability"] < 0.95 < coarse["stability"]


def test_one_resolution_is_run_once(slide, tmp_path):
    config = ClusteringConfig(components=10, resolutions=(0.5,))
    cluster_cells(counts=slide / "counts.h5ad", config=config, clusters=tmp_path / "c.parquet", stability=tmp_path / "c.json")
    record = read_json(tmp_path / "c.json")
    assert record["chosen"] == 0.5
    assert record["resolutions"] == [{"resolution": 0.5, "clusters": 7, "stability": None}]


@pytest.mark.parametrize("wrong", [{"resolutions": ()}, {"resolutions": (0.5, 0.0)}, {"repeats": 1}])
def test_no_resolution_and_no_repeat_are_refused(wrong):
    with pytest.raises(ValidationError):
        ClusteringConfig(**wrong)


def test_rapids_is_named_where_it_is_missing(draw_cells, tmp_path):
    with pytest.raises(UserError, match=r"clustering.backend: rapids cannot be used .*rapids_singlecell.*NVIDIA GPU"):
        _cluster(tmp_path, draw_cells(), backend="rapids")
    assert not (tmp_path / "clusters.parquet").exists()


def test_rapids_computes_neighbors_and_the_map_only(draw_cells, tmp_path, monkeypatch):
    """A stand-in with the same calls passes them to scanpy; every other step is unchanged."""
    calls = []

    def neighbors(cells, *, n_neighbors, use_rep, random_state, algorithm):
        calls.append(("neighbors", n_neighbors, use_rep, random_state, algorithm))
        sc.pp.neighbors(cells, n_neighbors=n_neighbors, use_rep=use_rep, transformer="sklearn", random_state=random_state)

    def umap(cells, *, min_dist, maxiter, init_pos, random_state):
        calls.append(("umap", min_dist, maxiter, init_pos, random_state))
        sc.tl.umap(cells, min_dist=min_dist, maxiter=maxiter, init_pos=init_pos, random_state=random_state)

    stand_in = SimpleNamespace(pp=SimpleNamespace(neighbors=neighbors), tl=SimpleNamespace(umap=umap))
    monkeypatch.setitem(sys.modules, "rapids_singlecell", stand_in)
    found = _cluster(tmp_path, draw_cells(), backend="rapids", components=10)
    assert calls == [("neighbors", 15, "X_pca", 0, "brute"), ("umap", 0.3, 200, "spectral", 0)]
    pd.testing.assert_frame_equal(found, _cluster(tmp_path, draw_cells(), components=10))


@pytest.mark.gpu
def test_rapids_finds_the_clusters_of_scanpy(draw_cells, tmp_path):
    first, second = (_cluster(tmp_path, draw_cells(per_type=500), backend=backend) for backend in ("scanpy", "rapids"))
    named = first["cluster"].notna()
    assert adjusted_rand_score(first["cluster"][named], second["cluster"][named]) > 0.9
    assert np.isfinite(second.loc[named, ["umap_1", "umap_2"]]).all(axis=None)
