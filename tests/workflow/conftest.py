import pytest
from project import Project


@pytest.fixture
def project(tmp_path):
    """A fresh copy of the workflow."""
    return Project(tmp_path)
