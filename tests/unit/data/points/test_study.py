"""A data set becomes slides by fold, which load without the source."""

import shutil

import numpy as np
import pytest
import yaml

from nuclass_pipeline.config.loading.points import read_images, read_points
from nuclass_pipeline.config.run import load_run
from nuclass_pipeline.data.points.layouts import read_m2c, read_ocelot, read_point_table
from nuclass_pipeline.data.points.study import spread_cases, write_study
from nuclass_pipeline.errors import UserError
from tests import ROOT
from tests.unit.data.points.sets import make_m2c, make_ocelot, make_table


def load(path):
    return load_run(yaml.safe_load(path.read_text()), root=path.parent)


def written(found, out, folds):
    # The folder is its own project here, so that paths start from it.
    for name in ("labels.tsv", "markers.tsv"):
        (out.parent / "config").mkdir(exist_ok=True)
        shutil.copy(ROOT / "config" / name, out.parent / "config")
    return write_study(found, out, spread_cases(found, folds), root=ROOT)


def test_runs_load_after_the_source_is_gone(tmp_path):
    source = make_m2c(tmp_path / "source")
    runs = written(read_m2c(source), tmp_path / "out", 3)
    shutil.rmtree(source)
    (tmp_path / "out/config").mkdir()
    shutil.copy(ROOT / "config/markers.tsv", tmp_path / "out/config")
    run = load(runs[0])
    assert run.heldout_slides == ["m2c-1"] and run.training_slides == ["m2c-2", "m2c-3"]
    assert run.config.study.colors["Stromal"] == "#429b45" and (
        run.config.image.local_um,
        run.config.image.context_um,
        run.config.gate.kind,
    ) == (32, 64, "neighbors")
    cases = [{image.case for image in read_images(run.slides[name].bundle).values()} for name in run.slides]
    assert sum(map(len, cases)) == len(set.union(*cases)) == 9
    cells = [len(read_points(slide.bundle, read_images(slide.bundle))) for slide in run.slides.values()]
    assert sum(cells) == 81


def test_a_case_in_two_training_slides_is_refused_and_the_remedy_works(tmp_path):
    runs = written(read_m2c(make_m2c(tmp_path / "source")), tmp_path / "out", 3)
    (tmp_path / "out/config").mkdir()
    shutil.copy(ROOT / "config/markers.tsv", tmp_path / "out/config")
    table = tmp_path / "out/m2c-3/images.csv"
    before = table.read_text()
    own, other = before.splitlines()[1].split(",")[3], (tmp_path / "out/m2c-2/images.csv").read_text().splitlines()[1].split(",")[3]
    table.write_text(before.replace(f",{own}", f",{other}"))
    with pytest.raises(UserError, match=f"case '{other}' is also in slide m2c-2 of study.train, and m2c-3 is in study.train"):
        load(runs[0])
    table.write_text(before)
    assert load(runs[0])


def test_context_pictures_come_along(tmp_path):
    out = tmp_path / "out"
    written(read_ocelot(make_ocelot(tmp_path / "source")), out, 2)
    images = read_images(out / "ocelot-1") | read_images(out / "ocelot-2")
    assert images["003"].context_xy_px == (64, 0) and images["003"].context_file.is_file()


@pytest.mark.parametrize(("folds", "message"), [(1, "Use 2 to 3."), (4, "4 folds of 9 cases with labels; each fold needs 3. Use 2 to 3.")])
def test_folds_need_three_cases_each_and_the_remedy_works(tmp_path, folds, message):
    found = read_m2c(make_m2c(tmp_path))
    with pytest.raises(UserError) as caught:
        spread_cases(found, folds)
    assert message in str(caught.value)
    assert len(set(spread_cases(found, 3).values())) == 3


def test_folds_hold_the_same_share_of_each_organ_and_repeat(tmp_path):
    found = read_ocelot(make_ocelot(tmp_path, cases=12))
    folds = spread_cases(found, 2, seed=4)
    assert folds == spread_cases(found, 2, seed=4)
    organs = [found.groups[name] for name, image in found.images.items() if folds[image.case] == 1]
    assert organs.count("kidney") == organs.count("bladder")
    assert any(spread_cases(found, 2, seed=seed) != folds for seed in range(3))


def test_a_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    found = read_point_table(make_table(tmp_path))
    with pytest.raises(UserError, match=r"--out: it is not empty\. Remove it, or name another folder"):
        write_study(found, tmp_path / "out", spread_cases(found, 2), root=ROOT)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_broken_picture_leaves_nothing_behind(tmp_path):
    found = read_point_table(make_table(tmp_path))
    (tmp_path / "in/3.png").write_text("not a picture")
    with pytest.raises(UserError, match=r"3\.png"):
        write_study(found, tmp_path / "out", spread_cases(found, 2), root=ROOT)
    assert not (tmp_path / "out").exists()


def test_an_import_that_is_cut_off_leaves_nothing_behind(tmp_path, monkeypatch):
    found, copies = read_m2c(make_m2c(tmp_path / "source")), []

    def copy(source, target):
        copies.append(target)
        if len(copies) == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfile", copy)
        with pytest.raises(KeyboardInterrupt):
            write_study(found, tmp_path / "out", spread_cases(found, 3), root=ROOT)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    assert len(write_study(found, tmp_path / "out", spread_cases(found, 3), root=ROOT)) == 3


def test_the_real_folds_have_alike_classes(real_data):
    if not (real_data / "he_m2c").is_dir():
        pytest.skip("no m2c")
    found = read_m2c(real_data / "he_m2c")
    folds = spread_cases(found, 5)
    counts = np.zeros((5, 3))
    for point in found.points:
        counts[folds[found.images[point.image].case] - 1, int(point.raw) - 1] += 1
    np.testing.assert_allclose(counts / counts.sum(axis=0), 0.2, atol=0.01)
