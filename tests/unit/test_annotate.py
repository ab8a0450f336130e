"""`nuclass_pipeline.label` adds the labels of `nuclass label` to an AnnData object."""

import subprocess
import sys

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import nuclass_pipeline as nuclass
from nuclass_pipeline.annotate import label_anndata
from nuclass_pipeline.data.tables.count_table import NO_PLACES
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.knowledge.cell_types import HIERARCHY
from nuclass_pipeline.vocabulary import UNRESOLVED
from tests.unit.planted_types import POOR, draw


def test_the_package_stays_light():
    """Every cluster job imports it when it reads the Snakefile."""
    code = "import sys, nuclass_pipeline; print({'scanpy', 'anndata', 'pandas'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
    assert nuclass.label is label_anndata
    assert "label" in dir(nuclass)


@pytest.mark.long
def test_labels_are_added_to_a_copy():
    cells = draw()
    cells.obsm["spatial"] = np.full((cells.n_obs, 2), np.nan)
    found = nuclass.label(cells, organ="lung", clusters="truth")
    assert "label" not in cells.obs
    labelled = (found.obs["label"] != UNRESOLVED).to_numpy()
    assert labelled.mean() > 0.85
    assert (found.obs["label"] == cells.obs["truth"])[labelled].mean() > 0.95
    assert (found.obs["label"] == UNRESOLVED)[cells.obs["poor"]].all()
    t_cell = found.obs[found.obs["label"] == "T_Cell"].iloc[0]
    assert (t_cell["cl_id"], t_cell["lineage"], t_cell["cluster"]) == ("CL:0000084", "Lymphoid", "T_Cell")
    assert found.obs["cl_id"][~labelled].isna().all()
    assert found.obsm["X_umap_nuclass"].shape == (cells.n_obs, 2)
    assert np.isnan(found.obsm["X_pca_nuclass"]).all(axis=1).sum() == POOR
    assert found.uns["nuclass"]["organ"] == "lung"
    assert NO_PLACES not in found.uns["nuclass"]["warnings"]
    assert (found.X != cells.X).nnz == 0


def test_mistakes_are_one_line():
    cells = draw(per_type=3)
    with pytest.raises(UserError, match=r"'toe' is not a known organ"):
        nuclass.label(cells, organ="toe")
    with pytest.raises(UserError, match=r"adata: obs\['own'\]: no such column; found truth, poor\. Name one of them, or none\."):
        nuclass.label(cells, organ="lung", clusters="own")
    cells.var_names = [name.capitalize() for name in cells.var_names]
    with pytest.raises(UserError, match=r"adata: panel: \d of 18 cell types of the lung .* the gene names look like those of a mouse"):
        nuclass.label(cells, organ="lung")
    cells.X = cells.X * 0.5
    with pytest.raises(UserError, match=r"adata: X: no counts in layers\['counts'\], X or raw: X holds [\d.]+, which is not a count\."):
        nuclass.label(cells, organ="lung")


@pytest.mark.long
def test_real_cells_of_an_anndata_file_get_their_published_lineage(real_data, tmp_path):
    """8,568 cells; the file is made from a table of counts. A label is right if it belongs to the published lineage."""
    data = real_data / "breast_rep1_labelled"
    counts = pd.read_csv(data / "counts.csv.gz", index_col=0)
    published = pd.read_csv(data / "cells.csv.gz", index_col=0)["label"].groupby(level=0).first().loc[counts.index]
    published.index = counts.index = counts.index.astype(str)
    written = ad.AnnData(sparse.csr_matrix(counts.to_numpy(np.float32)), counts[[]], pd.DataFrame(index=counts.columns))
    written.write_h5ad(tmp_path / "breast.h5ad")
    found = nuclass.label(ad.read_h5ad(tmp_path / "breast.h5ad"), organ="breast")
    lineage_of = pd.read_csv(data / "lineages.tsv", sep="\t").set_index("label")["lineage"]
    truth = published.map(lineage_of)
    labelled = (found.obs["label"] != UNRESOLVED) & truth.notna()
    mapped = found.obs["label"][labelled].map(HIERARCHY.map_to_lineages(HIERARCHY.types, sorted(lineage_of.dropna().unique())))
    assert labelled.sum() > 4000
    assert (mapped == truth[labelled]).mean() > 0.96
    assert found.obs["cl_id"][labelled].str.fullmatch(r"CL:\d{7}").all()
