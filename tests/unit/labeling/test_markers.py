"""Markers of planted clusters are their planted genes."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from planted_types import PROGRAMMES
from scipy.stats import mannwhitneyu

from nuclass_pipeline.config.study import ClusteringConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_table, write_table
from nuclass_pipeline.labeling.counts import normalize
from nuclass_pipeline.labeling.markers import rank_markers
from nuclass_pipeline.schemas import CLUSTERS, MARKERS


@pytest.fixture(scope="module")
def markers(slide):
    path = slide / "markers.parquet"
    config = ClusteringConfig(markers_per_cluster=8)
    rank_markers(counts=slide / "counts.h5ad", clusters=slide / "clusters.parquet", config=config, markers=path)
    return read_table(path, MARKERS)


def test_markers_are_the_planted_genes(slide, markers):
    truth = ad.read_h5ad(slide / "counts.h5ad").obs["truth"].to_numpy()
    clusters = pd.read_parquet(slide / "clusters.parquet")["cluster"]
    for name, rows in markers.groupby("cluster"):
        planted = PROGRAMMES[pd.Series(truth[clusters == name]).mode()[0]].split()
        assert set(rows["gene"]) <= set(planted)
        assert list(rows["rank"]) == list(range(1, len(rows) + 1))
        assert rows["score"].is_monotonic_decreasing
    assert markers.groupby("cluster").size().max() == 8


def test_the_p_value_is_that_of_scipy(slide, markers):
    cells = ad.read_h5ad(slide / "counts.h5ad")
    clusters = pd.read_parquet(slide / "clusters.parquet")["cluster"]
    named = clusters.notna().to_numpy()
    linear = normalize(cells.X[named]).toarray()
    row = markers.iloc[0]
    inside = (clusters[named] == row["cluster"]).to_numpy()
    values = linear[:, cells.var_names.get_loc(row["gene"])]
    p = mannwhitneyu(values[inside], values[~inside], method="asymptotic", use_continuity=False).pvalue
    assert np.isclose(row["fraction_in"], (values[inside] > 0).mean())
    assert row["p_adjusted"] <= min(1, p * cells.n_vars) + 1e-300
    assert row["p_adjusted"] >= p


def test_one_cluster_has_no_markers(slide, tmp_path):
    clusters = pd.read_parquet(slide / "clusters.parquet")
    write_table(clusters.assign(cluster="0"), tmp_path / "clusters.parquet", CLUSTERS)
    paths = {"counts": slide / "counts.h5ad", "clusters": tmp_path / "clusters.parquet", "markers": tmp_path / "markers.parquet"}
    rank_markers(config=ClusteringConfig(), **paths)
    assert read_table(tmp_path / "markers.parquet", MARKERS).empty


def test_clusters_of_other_cells_are_refused(slide, tmp_path):
    clusters = pd.read_parquet(slide / "clusters.parquet")
    write_table(clusters.iloc[1:], tmp_path / "clusters.parquet", CLUSTERS)
    with pytest.raises(UserError, match="'cell0' has no row"):
        rank_markers(
            counts=slide / "counts.h5ad", clusters=tmp_path / "clusters.parquet", config=ClusteringConfig(), markers=tmp_path / "m.parquet"
        )
