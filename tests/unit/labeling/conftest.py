"""The slide of all unit tests with planted clusters instead of computed ones, and its labels."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.unit.planted_types import draw, label_function, write_planted_clusters


@pytest.fixture(scope="session")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `counts.h5ad` and a `clusters.parquet` of planted clusters."""
    return write_planted_clusters(tmp_path_factory.mktemp("planted"), draw())


@pytest.fixture(scope="session")
def label(slide: Path, markers_tsv: Path) -> Callable[..., pd.DataFrame]:
    """Return a function that labels the cells of the slide into a folder; its arguments replace the usual ones."""
    return label_function(slide, markers_tsv)


@pytest.fixture(scope="session")
def labels(label: Callable[..., pd.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Return the labels of the slide by the default config."""
    return label(tmp_path_factory.mktemp("labels"))
