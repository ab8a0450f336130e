"""Fixtures for all tests."""

import os
from pathlib import Path

import pytest

from tests import ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real data, or skip and say how to name it."""
    folder = Path(os.environ.get("NUCLASS_TEST_DATA", ROOT.parent / "shared/data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set NUCLASS_TEST_DATA")
    return folder
