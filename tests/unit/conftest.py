"""A small slide with planted types, and the marker table."""

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import pandas as pd
import pytest

from tests import ROOT
from tests.unit.planted_types import draw, label_function


@pytest.fixture(scope="session")
def draw_cells() -> Callable[..., ad.AnnData]:
    return draw


@pytest.fixture(scope="session")
def markers_tsv() -> Path:
    return ROOT / "config" / "markers.tsv"


@pytest.fixture(scope="session")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `counts.h5ad` and its `clusters.parquet`."""
    from nuclass_pipeline.config.expression import ClusteringConfig
    from nuclass_pipeline.expression.clustering import cluster_cells

    folder = tmp_path_factory.mktemp("slide")
    draw().write_h5ad(folder / "counts.h5ad")
    cluster_cells(
        counts=folder / "counts.h5ad",
        config=ClusteringConfig(components=10),
        clusters=folder / "clusters.parquet",
        stability=folder / "clustering.json",
    )
    return folder


@pytest.fixture(scope="session")
def label(slide: Path, markers_tsv: Path) -> Callable[..., pd.DataFrame]:
    """Return a function that labels the cells of the slide into a folder; its arguments replace the usual ones."""
    return label_function(slide, markers_tsv)
