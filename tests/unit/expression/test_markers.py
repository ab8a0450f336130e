"""Markers of planted clusters are their planted genes."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.stats import mannwhitneyu, norm, ttest_rel

from nuclass_pipeline.config.expression import ClusteringConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.expression.counts import normalize
from nuclass_pipeline.expression.markers import PRIOR, pseudobulk, rank_markers
from nuclass_pipeline.io import read_table, write_table
from nuclass_pipeline.schemas import CELLS, CLUSTERS, GENE_SCORES, MARKERS
from tests.unit.planted_types import PLANTED_GENES

GENES = 60
UP, LOCAL, ABSENT = slice(0, 3), 3, 4
"""Genes that are up in the cluster in every section, up in section 2 only, and without a transcript."""


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
        planted = PLANTED_GENES[pd.Series(truth[clusters == name]).mode()[0]].split()
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


def ranked(slide, folder, cluster):
    """Rank the markers of clusters given for each cell, and return both tables."""
    clusters = pd.read_parquet(slide / "clusters.parquet").assign(cluster=cluster)
    write_table(clusters, folder / "clusters.parquet", CLUSTERS)
    paths = {name: folder / f"{name}.parquet" for name in ("clusters", "markers", "gene_scores")}
    rank_markers(counts=slide / "counts.h5ad", config=ClusteringConfig(), **paths)
    return read_table(paths["markers"], MARKERS), read_table(paths["gene_scores"], GENE_SCORES)


def test_one_cluster_has_no_markers(slide, tmp_path):
    found, scores = ranked(slide, tmp_path, "0")
    assert found.empty
    assert scores["score"].isna().all()
    assert scores["gene"].tolist() == ad.read_h5ad(slide / "counts.h5ad").var_names.tolist()


def test_every_gene_has_a_score_in_every_cluster(slide, tmp_path):
    cells = ad.read_h5ad(slide / "counts.h5ad")
    cluster = np.where(np.arange(cells.n_obs) % 3 == 0, "10", "2").astype(object)
    cluster[0], cluster[1] = "alone", None
    found, scores = ranked(slide, tmp_path, cluster)
    assert scores["cluster"].tolist() == np.repeat(["2", "10", "alone"], cells.n_vars).tolist()
    assert scores["gene"].tolist() == [*cells.var_names] * 3
    assert (scores["score"].isna() == (scores["cluster"] == "alone")).all()
    assert found["cluster"].is_monotonic_decreasing, "2 comes before 10"
    merged = found.merge(scores, on=["cluster", "gene"], suffixes=("", "_of_all"))
    assert len(merged) == len(found)
    assert (merged["score"] == merged["score_of_all"]).all()


def test_a_score_is_the_z_of_the_rank_sum_test(slide, tmp_path):
    cells = ad.read_h5ad(slide / "counts.h5ad")
    cluster = np.where(np.arange(cells.n_obs) % 3 == 0, "a", "b")
    scores = ranked(slide, tmp_path, cluster)[1].set_index(["cluster", "gene"])["score"]
    linear = normalize(cells.X).toarray()
    for gene in ("CD3E", "OTHER7"):
        values = linear[:, cells.var_names.get_loc(gene)]
        test = mannwhitneyu(values[cluster == "a"], values[cluster == "b"], method="asymptotic", use_continuity=False)
        assert 2 * norm.sf(abs(scores["a", gene])) == pytest.approx(test.pvalue, rel=1e-4)
        assert scores["b", gene] == pytest.approx(-scores["a", gene], rel=1e-4)


def test_clusters_of_other_cells_are_refused(slide, tmp_path):
    clusters = pd.read_parquet(slide / "clusters.parquet")
    write_table(clusters.iloc[1:], tmp_path / "clusters.parquet", CLUSTERS)
    with pytest.raises(UserError, match="'cell0' has no row"):
        rank_markers(
            counts=slide / "counts.h5ad", clusters=tmp_path / "clusters.parquet", config=ClusteringConfig(), markers=tmp_path / "m.parquet"
        )


@pytest.fixture(scope="module")
def sections():
    """Return six sections of 240 cells, which differ in depth and composition, with a cluster `a` of a quarter of the cells."""
    rng = np.random.default_rng(0)
    section, cluster = np.repeat(np.arange(6), 240), np.tile(np.repeat(["a", "b", "b", "c"], 60), 6)
    rates = 0.2 * rng.lognormal(0, 0.7, GENES) * rng.lognormal(0, 0.3, (6, GENES))[section]
    rates[:, ABSENT] = 0
    rates[cluster == "a", UP] *= 4
    rates[(cluster == "a") & (section == 2), LOCAL] *= 30
    names = pd.DataFrame(index=[f"cell{i}" for i in range(len(section))]), pd.DataFrame(index=[f"g{i}" for i in range(GENES)])
    cells = ad.AnnData(sparse.csr_matrix(rng.poisson(rates * (1 + section[:, None] / 2)).astype(np.float32)), *names)
    return cells, cluster, np.array([f"s{i}" for i in section])


def test_pseudobulk_finds_what_is_up_in_every_section_and_not_what_is_up_in_one(sections):
    found = pseudobulk(*sections)
    found = found[found["cluster"] == "a"].set_index("gene")
    up = found[(found["p_adjusted"] <= 0.05) & (found["log2fc"] > 0)]
    assert set(up.index) == {"g0", "g1", "g2"}
    assert found.loc[["g0", "g1", "g2"], "log2fc"].between(1.5, 2.1).all()
    assert found.loc["g3", "log2fc"] > 0.5
    assert found.loc["g3", "p"] > 0.2
    assert "g4" not in found.index
    assert (found["sections"] == 6).all()


def test_pseudobulk_is_a_paired_t_test_of_log_counts_per_million(sections):
    cells, cluster, section = sections
    x = cells.X.toarray()
    sums = np.array(
        [[x[(section == s) & ((cluster == "b") == inside)].sum(axis=0) for s in np.unique(section)] for inside in (True, False)]
    )
    depth = sums.sum(axis=2, keepdims=True)
    prior = PRIOR * depth / depth.mean()
    log_cpm = np.log2((sums + prior) / (depth + 2 * prior) * 1e6)
    expected = ttest_rel(log_cpm[0, :, 7], log_cpm[1, :, 7])
    row = pseudobulk(*sections).set_index(["cluster", "gene"]).loc[("b", "g7")]
    assert np.allclose(row[["t", "p"]].to_numpy(float), [expected.statistic, expected.pvalue])
    assert np.isclose(row["log2fc"], (log_cpm[0, :, 7] - log_cpm[1, :, 7]).mean())


def test_two_sections_are_not_enough_replicates(sections):
    cells, cluster, section = sections
    two = np.isin(section, ["s0", "s1"])
    assert pseudobulk(cells[two], cluster[two], section[two]).empty
    # Cluster a has enough cells in two of the six sections.
    rare = (cluster == "a") & np.isin(section, ["s0", "s1"])
    rare[np.flatnonzero(rare)[:9]] = False
    kept = rare | (cluster != "a")
    assert set(pseudobulk(cells[kept], cluster[kept], section[kept])["cluster"]) == {"b", "c"}


def test_a_gene_that_is_up_in_one_section_only_is_not_a_marker(sections, tmp_path):
    cells, cluster, section = sections
    paths = {name: tmp_path / f"{name}.parquet" for name in ("clusters", "cells", "markers")} | {"counts": tmp_path / "counts.h5ad"}
    cells.write_h5ad(paths["counts"])
    frame = pd.DataFrame({"cell_id": cells.obs_names, "cluster": cluster, "umap_1": 0.0, "umap_2": 0.0})
    write_table(frame, paths["clusters"], CLUSTERS)
    table = pd.DataFrame({column.name: 0 for column in CELLS.columns} | {"cell_id": cells.obs_names, "section": section})
    write_table(table, paths["cells"], CELLS)
    rank_markers(config=ClusteringConfig(), **paths)
    replicated = read_table(paths["markers"], MARKERS)
    rank_markers(config=ClusteringConfig(), **{name: path for name, path in paths.items() if name != "cells"})
    pooled = read_table(paths["markers"], MARKERS)
    assert set(pooled.loc[pooled["cluster"] == "a", "gene"]) == {"g0", "g1", "g2", "g3"}
    assert list(replicated["gene"][replicated["cluster"] == "a"]) == [g for g in pooled["gene"][pooled["cluster"] == "a"] if g != "g3"]
    assert list(replicated["rank"][replicated["cluster"] == "a"]) == [1, 2, 3]


def test_a_cell_without_section_is_refused(sections, tmp_path):
    cells, cluster, section = sections
    paths = {"counts": tmp_path / "counts.h5ad", "clusters": tmp_path / "clusters.parquet", "cells": tmp_path / "cells.parquet"}
    cells.write_h5ad(paths["counts"])
    write_table(pd.DataFrame({"cell_id": cells.obs_names, "cluster": cluster, "umap_1": 0.0, "umap_2": 0.0}), paths["clusters"], CLUSTERS)
    table = pd.DataFrame({column.name: 0 for column in CELLS.columns} | {"cell_id": cells.obs_names, "section": section})
    table.loc[5, "section"] = None
    write_table(table, paths["cells"], CELLS)
    with pytest.raises(UserError, match="section: cell 'cell5' has no section"):
        rank_markers(config=ClusteringConfig(), markers=tmp_path / "m.parquet", **paths)
