"""A whole native bundle from its files to clusters."""

import numpy as np

from nuclass_pipeline.config.expression import ClusteringConfig
from nuclass_pipeline.data.xenium.read import read_cells
from nuclass_pipeline.expression.clustering import cluster_cells
from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import CELLS, CLUSTERS


def test_the_mouse_bundle_goes_from_read_to_cluster(real_data, tmp_path):
    bundle = real_data / "xoa3.0_mouse_ileum_tiny"
    read_cells(manifest=bundle / "experiment.xenium", cells=tmp_path / "cells.parquet", counts=tmp_path / "counts.h5ad")
    config = ClusteringConfig(min_transcripts=1)
    cluster_cells(
        counts=tmp_path / "counts.h5ad", config=config, clusters=tmp_path / "clusters.parquet", stability=tmp_path / "clustering.json"
    )
    cells, clusters = read_table(tmp_path / "cells.parquet", CELLS), read_table(tmp_path / "clusters.parquet", CLUSTERS)
    assert clusters["cell_id"].tolist() == cells["cell_id"].tolist()
    passed = cells["transcripts"].to_numpy() >= 1
    assert (clusters["cluster"].notna().to_numpy() == passed).all()
    assert clusters.loc[passed, "cluster"].nunique() >= 1
    assert np.isfinite(clusters.loc[passed, "pc_1"]).all()
