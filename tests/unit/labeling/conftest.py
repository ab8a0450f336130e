"""A small slide with planted types, and the marker table."""

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import pytest
from planted_types import draw


@pytest.fixture(scope="session")
def draw_cells() -> Callable[..., ad.AnnData]:
    return draw


@pytest.fixture(scope="session")
def markers_tsv() -> Path:
    return Path(__file__).parents[3] / "config" / "markers.tsv"


@pytest.fixture(scope="session")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with `counts.h5ad` and its `clusters.parquet`."""
    from nuclass_pipeline.config.study import ClusteringConfig
    from nuclass_pipeline.labeling.clustering import cluster_cells

    folder = tmp_path_factory.mktemp("slide")
    draw().write_h5ad(folder / "counts.h5ad")
    cluster_cells(
        counts=folder / "counts.h5ad",
        config=ClusteringConfig(components=10),
        clusters=folder / "clusters.parquet",
        stability=folder / "clustering.json",
    )
    return folder
