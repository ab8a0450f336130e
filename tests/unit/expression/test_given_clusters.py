"""Clusters of one's own replace Leiden's; all else of the table stays as it is computed."""

import json

import numpy as np
import pandas as pd
import pytest

from nuclass_pipeline.config.expression import ClusteringConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.expression.clustering import cluster_cells
from nuclass_pipeline.expression.given_clusters import read_given_clusters
from nuclass_pipeline.io import read_table, read_warnings
from nuclass_pipeline.schemas import CLUSTERS
from tests.unit.planted_types import POOR, draw

NAMES = np.array(["a", "b", "c", "d"])
PASSED = np.array([True, True, False, True])


def test_clusters_are_matched_by_id_and_the_rest_is_counted(tmp_path):
    (tmp_path / "own.csv").write_text("cell_id,cluster\nd,ducts\na,7\nc,7\nx,7\n")
    found, warnings = read_given_clusters(tmp_path / "own.csv", None, NAMES, PASSED)
    assert found.tolist() == ["7", "not given", "ducts"]
    assert warnings == [
        "own.csv: 1 of 4 cells with a cluster are not on the slide and are left out",
        "own.csv: 1 of 3 cells that pass quality control have no cluster in it and form the cluster 'not given'",
        "own.csv: 1 cells with a cluster fail quality control and have none here",
    ]


def test_a_table_of_another_slide_is_refused(tmp_path):
    (tmp_path / "own.csv").write_text("cell_id,cluster\nx,1\n")
    with pytest.raises(
        UserError, match=r"own\.csv: cell_id: none of its 1 cells is on the slide; cells such as 'x' are not, and a cell there is 'a'"
    ):
        read_given_clusters(tmp_path / "own.csv", None, NAMES, PASSED)


def test_ids_that_are_the_same_by_chance_are_refused(tmp_path):
    (tmp_path / "own.csv").write_text("cell_id,cluster\n" + "".join(f"{i},1\n" for i in range(100)))
    slide = np.array(["99", *(f"x{i}" for i in range(99))])
    with pytest.raises(
        UserError, match=r"cell_id: 1 of its 100 cells are on the slide; cells such as '0' are not, and a cell there is '99'"
    ):
        read_given_clusters(tmp_path / "own.csv", None, slide, np.ones(100, bool))


def test_a_column_without_clusters_is_refused(tmp_path):
    (tmp_path / "own.csv").write_text("cell_id,cluster\na,NA\n")
    with pytest.raises(UserError, match=r"own\.csv: clusters: no cell has a cluster\. Name the column of the clusters\."):
        read_given_clusters(tmp_path / "own.csv", None, NAMES, PASSED)


def test_whole_numbers_that_pandas_wrote_as_floats_are_named_as_such(tmp_path):
    (tmp_path / "own.csv").write_text("cell_id,cluster\na,1.0\nb,\nd,10.0\n")
    assert read_given_clusters(tmp_path / "own.csv", None, NAMES, PASSED)[0].tolist() == ["1", "not given", "10"]
    (tmp_path / "own.csv").write_text("cell_id,cluster\na,1.0\nd,1.1\n")
    assert read_given_clusters(tmp_path / "own.csv", None, NAMES, PASSED)[0].tolist() == ["1.0", "not given", "1.1"]


@pytest.mark.long
def test_the_stage_takes_clusters_of_ones_own(tmp_path):
    cells = draw()
    cells.write_h5ad(tmp_path / "counts.h5ad")
    pd.DataFrame({"cell_id": cells.obs_names, "kind": cells.obs["truth"].to_numpy()}).to_csv(tmp_path / "own.csv", index=False)
    files = {"counts": tmp_path / "counts.h5ad", "clusters": tmp_path / "clusters.parquet", "stability": tmp_path / "clustering.json"}
    cluster_cells(**files, config=ClusteringConfig(), given=tmp_path / "own.csv", column="kind")
    table = read_table(files["clusters"], CLUSTERS).set_index("cell_id").loc[cells.obs_names]
    passed = ~cells.obs["poor"].to_numpy()
    assert (table["cluster"][passed] == cells.obs["truth"][passed]).all()
    assert table["cluster"][~passed].isna().all()
    assert np.isfinite(table.loc[passed, ["umap_1", "pc_1"]]).all(axis=None)
    assert read_warnings(files["clusters"]) == [f"own.csv: {POOR} cells with a cluster fail quality control and have none here"]
    assert json.loads(files["stability"].read_text()) == {
        "chosen": None,
        "cells": int(passed.sum()),
        "resolutions": [],
        "given": str(tmp_path / "own.csv"),
    }
