import shutil

import pytest

from tests.workflow.project import Project


@pytest.fixture
def project(tmp_path):
    """A fresh copy of the workflow."""
    return Project(tmp_path)


@pytest.fixture
def mine(project, real_data):
    """A run with one slide of one's own, the real mouse bundle: project and bundle."""
    bundle = project.folder / "mine/outs"
    bundle.mkdir(parents=True)
    for name in ("experiment.xenium", "cells.parquet", "cell_feature_matrix.h5"):
        shutil.copyfile(real_data / "xoa3.0_mouse_ileum_tiny" / name, bundle / name)
    shutil.copyfile(real_data / "he_openslide_cmu1/CMU-1-Small-Region.svs", bundle.parent / "he.svs")
    (bundle.parent / "alignment.csv").write_text("1,0,0\n0,1,0\n0,0,1\n")
    project.add_slide(slide="mine", kind="xenium", organ="lung", bundle="mine/outs", image="mine/he.svs", alignment="mine/alignment.csv")
    project.edit(lambda raw: raw["study"].update(train=["mine", "demo-pancreas-1"]))
    return project, bundle
