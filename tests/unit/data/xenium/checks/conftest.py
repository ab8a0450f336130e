"""A phantom bundle with all optional files, and copies of it to damage."""

import shutil

import pytest

from nuclass_pipeline.config.synthetic import SyntheticConfig
from nuclass_pipeline.phantom import make_slide


@pytest.fixture(scope="session")
def phantom(tmp_path_factory):
    """The bundle of a tissue phantom of 112 cells."""
    folder = tmp_path_factory.mktemp("phantom")
    files = {"manifest": folder / "outs/experiment.xenium", "image": folder / "he.ome.tif", "alignment": folder / "alignment.csv"}
    make_slide(organ="lung", seed=5, config=SyntheticConfig(cells=120), truth=folder / "truth.parquet", **files)
    return folder / "outs"


@pytest.fixture
def bundle(phantom, tmp_path):
    """A copy of it."""
    return shutil.copytree(phantom, tmp_path / "outs")


@pytest.fixture
def bare(bundle):
    """A copy with manifest, cells and matrix alone."""
    for path in bundle.iterdir():
        if path.name not in ("experiment.xenium", "cells.parquet", "cell_feature_matrix.h5"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return bundle
