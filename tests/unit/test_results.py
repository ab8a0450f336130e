"""A run is opened, and its results are found by name."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

import nuclass_pipeline
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import write_table
from nuclass_pipeline.results import Results, open_run
from nuclass_pipeline.schemas import WARNINGS
from tests.unit.evaluate.test_attribution import files as trained  # noqa: F401
from tests.unit.evaluate.test_classifier import models  # noqa: F401


@pytest.fixture
def run(tmp_path: Path) -> Results:
    """Return a run with one slide and its predictions."""
    for name in ("slides/a/labels.parquet", "predictions/base/gate/seed-0/a.parquet", "metrics/base/heldout.parquet"):
        (tmp_path / name).parent.mkdir(parents=True)
        pd.DataFrame({"cell_id": ["c"]}).to_parquet(tmp_path / name)
    return open_run(tmp_path)


def test_the_package_exports_what_its_help_says(models: Path) -> None:  # noqa: F811
    (models.parent / "slides").mkdir()
    run = nuclass_pipeline.open_run(models.parent)
    assert run.slides == []
    assert run.classifier().meta.classes == ("Acinar", "T_Cell")
    assert set(nuclass_pipeline.__all__) <= set(dir(nuclass_pipeline))
    assert "open_run" in (nuclass_pipeline.__doc__ or "")
    with pytest.raises(UserError, match="there is no result 'label'"):
        run.path("label")
    with pytest.raises(UserError, match="it holds no run"):
        nuclass_pipeline.open_run(models)


def test_a_result_is_found_by_its_name(run: Results) -> None:
    assert run.path("labels", slide="a") == run.folder / "slides/a/labels.parquet"
    assert run.path("predictions", model="gate", seed=0, slide="a").is_file()
    assert run.path("heldout_metrics") == run.folder / "metrics/base/heldout.parquet"


def test_windows_of_another_side_are_not_those_of_the_run(run: Results) -> None:
    with pytest.raises(UserError, match=r"patches_128x128\.h5: file: it does not exist"):
        run.patches("a", 128)


def test_an_archive_has_the_scores_of_its_variants_and_slides_have_what_variants_share(tmp_path: Path) -> None:
    (tmp_path / "metrics/concat").mkdir(parents=True)
    (tmp_path / "metrics/concat/heldout.parquet").touch()
    (tmp_path / "slides/a").mkdir(parents=True)
    (tmp_path / "slides/a/split.parquet").touch()
    archive = open_run(tmp_path)
    assert archive.path("heldout_metrics", variant="concat") == tmp_path / "metrics/concat/heldout.parquet"
    assert archive.path("variant_split", slide="a") == tmp_path / "slides/a/split.parquet"


def test_slides_of_another_run_are_found_beside_it(tmp_path: Path) -> None:
    for name in (
        "second/predictions/base/gate/seed-0/a.parquet",
        "second/slides/a/features/cells.base.seed-0.h5",
        "demo/slides/a/labels.parquet",
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    (tmp_path / "second/.run.json").write_text('{"run": "second", "slides_from": "demo"}')
    run = open_run(tmp_path / "second")
    assert run.slides == ["a"]
    assert run.path("labels", slide="a") == tmp_path / "demo/slides/a/labels.parquet"
    assert run.path("cell_features", slide="a", seed=0) == tmp_path / "second/slides/a/features/cells.base.seed-0.h5"
    (tmp_path / "demo").rename(tmp_path / "elsewhere")
    with pytest.raises(
        UserError, match=r"labels\.parquet: file: it does not exist. Put the results of run demo beside it, which hold its slides"
    ):
        run.path("labels", slide="a")
    (tmp_path / "elsewhere").rename(tmp_path / "demo")
    assert run.path("labels", slide="a").is_file()


def test_a_variant_has_its_own_results_and_those_that_it_shares(run: Results) -> None:
    raw = {"run": "r", "study": {"train": ["a"], "heldout": ["b"]}}
    raw["variants"] = {"concat": {"local": {"conditioning": "concat"}}, "small": {"gate": {"hidden": [8, 8]}}}
    (run.folder / ".run.json").write_text(json.dumps(raw))
    for name in ("models/base/local", "models/base/gate", "models/concat/local", "models/small/gate", "predictions/small/local"):
        (run.folder / name / "seed-0").mkdir(parents=True)
        for file in ("best.ckpt", "a.parquet"):
            (run.folder / name / "seed-0" / file).touch()

    def folder(name: str, **wildcards: object) -> str:
        return run.path(name, seed=0, **wildcards).relative_to(run.folder).parent.as_posix()

    assert folder("checkpoint", model="local") == "models/base/local/seed-0"
    assert folder("checkpoint", model="local", variant="concat") == "models/concat/local/seed-0"
    assert folder("checkpoint", model="local", variant="small") == "models/base/local/seed-0"
    assert folder("checkpoint", model="gate", variant="small") == "models/small/gate/seed-0"
    assert folder("predictions", model="local", variant="small", slide="a") == "predictions/small/local/seed-0"
    assert run.slides == ["a"]
    with pytest.raises(UserError, match=r"variant: there is no variant 'smal', did you mean 'small'\? Use base, concat, small"):
        run.scores(variant="smal")


def test_patches_without_their_image_are_refused(run: Results) -> None:
    with h5py.File(run.folder / "slides/a/patches_224x224.h5", "w", libver="v110") as file:
        layout = h5py.VirtualLayout((1, 224, 224, 3), np.uint8)
        layout[0] = h5py.VirtualSource("image.h5", "level_0", (224, 224, 3), np.uint8)
        file.create_virtual_dataset("images", layout)
        file["keys"] = ["c"]
    with pytest.raises(UserError, match=r"image\.h5, which does not exist"):
        run.patches("a")
    with h5py.File(run.folder / "slides/a/image.h5", "w") as file:
        file["level_0"] = np.full((224, 224, 3), 7, np.uint8)
    assert (run.patches("a").read([0]) == 7).all()
    with pytest.raises(UserError, match=r"patches_1024x1024\.h5: file: it does not exist"):
        run.patches("a", 1024)


@pytest.mark.parametrize(
    ("name", "wildcards", "message"),
    [
        ("labels", {}, 'labels needs slide; found nothing. Use path("labels", slide=…).'),
        ("labels", {"slides": "a"}, "labels needs slide; found slides."),
        ("labels", {"slide": "a", "seed": 0}, "labels needs slide; found slide, seed."),
        ("predictions", {"slide": "a"}, 'found slide. Use path("predictions", model=…, seed=…, slide=…).'),
        ("report", {"slide": "a"}, 'report needs nothing else; found slide. Use path("report").'),
    ],
)
def test_other_wildcards_are_refused(run: Results, name: str, wildcards: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refusal:
        run.path(name, **wildcards)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "wildcards", "remedy"),
    [
        ("labels", {"slide": "z"}, "Run the workflow, or name another of its slides: a."),
        ("figure", {"figure": "z"}, "Run the workflow, or choose another figure."),
        ("checkpoint", {"model": "gate", "seed": 7}, "Run the workflow, or choose another model or seed."),
        ("report", {}, "Run the workflow."),
    ],
)
def test_a_result_that_was_not_computed_has_a_remedy(run: Results, name: str, wildcards: dict[str, Any], remedy: str) -> None:
    with pytest.raises(UserError) as refusal:
        run.path(name, **wildcards)
    assert str(refusal.value).endswith(f"file: it does not exist. {remedy}")


def test_an_archived_run_has_the_slides_of_its_predictions(tmp_path: Path) -> None:
    for name in (
        "base/gate/seed-0/b.parquet",
        "base/gate/seed-1/a.parquet",
        "base/local/seed-0/b.parquet",
        "base/gate/seed-0/.c.1-host.partial.parquet",
    ):
        (tmp_path / "predictions" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "predictions" / name).touch()
    assert open_run(str(tmp_path)).slides == ["a", "b"]
    (tmp_path / "slides/c").mkdir(parents=True)
    assert open_run(tmp_path).slides == ["a", "b", "c"]


def test_warnings_are_a_table(tmp_path: Path) -> None:
    rows = pd.DataFrame([["a", "split", "few cells"]], columns=["slide", "stage", "warning"])
    write_table(rows, tmp_path / "metrics/warnings.parquet", WARNINGS)
    pd.testing.assert_frame_equal(open_run(tmp_path).warnings(), rows)
    (tmp_path / "metrics/warnings.parquet").unlink()
    with pytest.raises(UserError, match=r"warnings\.parquet: file: it does not exist\. Run the workflow\."):
        open_run(tmp_path).warnings()


def test_metrics_alone_are_a_run(tmp_path: Path) -> None:
    (tmp_path / "metrics").mkdir()
    with pytest.raises(UserError, match=r"labels\.parquet: file: it does not exist\. Run the workflow"):
        open_run(tmp_path).labels("a")


@pytest.mark.parametrize("folder", [None, 3])
def test_a_folder_that_is_not_a_path_is_refused(folder: Any) -> None:
    with pytest.raises(UserError, match=rf"^open_run: folder: {folder} is not a path\. Name the folder of a run"):
        open_run(folder)
