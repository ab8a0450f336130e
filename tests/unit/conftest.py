"""A small slide with planted types, and the marker table."""

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import pandas as pd
import pytest

from nuclass_pipeline.config.labeling import LabelingConfig
from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import LABELS
from nuclass_pipeline.vocabulary import CLASSES
from tests import ROOT
from tests.unit.planted_types import draw


@pytest.fixture(scope="session")
def draw_cells() -> Callable[..., ad.AnnData]:
    return draw


@pytest.fixture(scope="session")
def markers_tsv() -> Path:
    return ROOT / "config" / "markers.tsv"


@pytest.fixture(scope="session")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with `counts.h5ad` and its `clusters.parquet`."""
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
    """Give a function that labels the cells of the slide into a folder, with other arguments where they are given."""
    from nuclass_pipeline.labeling.stage import label_cells

    def run(out: Path, folder: Path = slide, **other: object) -> pd.DataFrame:
        files = {"counts": folder / "counts.h5ad", "clusters": folder / "clusters.parquet", "knowledge": markers_tsv}
        usual = {"organ": "lung", "classes": CLASSES, "config": LabelingConfig()}
        label_cells(**(files | usual | other), labels=out / "labels.parquet")
        return read_table(out / "labels.parquet", LABELS)

    return run
