"""Images with points through Snakemake, from the import to the split."""

import pandas as pd
import pytest

from nuclass_pipeline.data.points.layouts import read_m2c
from nuclass_pipeline.data.points.study import spread_cases, write_study
from nuclass_pipeline.io import read_warnings
from tests.unit.data.points.sets import make_m2c


@pytest.fixture
def fold(project):
    """The run file of a fold inside a copy of the project, with networks that need no weights."""
    found = read_m2c(make_m2c(project.folder / "source"))
    run_file = write_study(found, project.folder / "data", spread_cases(found, 3), project.folder)[0]
    text = run_file.read_text()
    text = text.replace("name: efficientnet-lite0, image_px: 112, freeze: true", "name: tiny-resnet, image_px: 64")
    run_file.write_text(text.replace("  standardize: true\n", ""))
    return run_file


def test_a_fold_is_planned_and_cut_and_split(project, fold):
    jobs = project.planned("--configfile", "data/fold-1.yaml")
    assert {jobs[rule] for rule in ("import_points", "extract_patches", "split_cells", "predict_slide", "embed_cells")} == {3}
    assert jobs["summarize_point_images"] == jobs["figure_point_labels"] == 1
    assert not {"build_image", "register_image", "label_cells", "figure_registration"} & set(jobs)
    wanted = [f"results/m2c-fold-1/slides/m2c-{number}/split.parquet" for number in (1, 2)]
    done = project.snakemake(*wanted, "--configfile", "data/fold-1.yaml")
    assert done.returncode == 0, done.stderr[-2000:]
    subsets = [set(pd.read_parquet(project.folder / path)["subset"]) for path in wanted]
    assert subsets == [{"heldout"}, {"train", "gate", "val"}]
    warnings = read_warnings(project.folder / "results/m2c-fold-1/slides/m2c-1/image.h5")
    assert any("100 % of the context windows of 64 µm are padded" in warning for warning in warnings)


def test_a_wrong_table_stops_before_the_first_job(project, fold):
    table = fold.parent / "m2c-2/points.csv"
    table.write_text(table.read_text().replace("TCGA", "TGCA", 1))
    done = project.snakemake("-n", "--configfile", "data/fold-1.yaml")
    assert done.returncode != 0 and "line 2, image: 'TGCA" in done.stdout + done.stderr
