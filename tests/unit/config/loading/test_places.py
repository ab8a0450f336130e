"""Relative paths of a run file or slide sheet that lies outside the project."""

import os

import pytest
import yaml

from nuclass_pipeline.config.loading.places import locate, locate_key
from nuclass_pipeline.config.run import load_run
from tests import ROOT


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A project in which commands run, and the folder of a study beside it."""
    for name in ("project/config/markers.tsv", "study/run.yaml", "study/data/cells"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "study"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("data/cells", "{study}/data/cells"),
        ("../study/data/cells", "{study}/../study/data/cells"),
        ("data/absent", "{study}/data/absent"),
        ("config/markers.tsv", "config/markers.tsv"),
        ("/data/cells", "/data/cells"),
    ],
)
def test_a_path_starts_from_its_file_and_then_from_the_project(study, path, expected):
    found = locate(path, str(study / "run.yaml"), "")
    assert found == expected.format(study=study)


def test_a_path_beside_its_file_comes_first(study):
    (study / "config").mkdir()
    (study / "config/markers.tsv").touch()
    assert locate("config/markers.tsv", str(study / "run.yaml"), "") == f"{study}/config/markers.tsv"


def test_files_of_the_project_are_read_as_before(study):
    (study.parent / "project/config/mine.yaml").touch()
    assert locate("data/cells", "config/mine.yaml", "") == "data/cells"
    (study.parent / "project/linked").symlink_to(study)
    assert locate("data/cells", "linked/run.yaml", "") == "data/cells"


def test_with_directory_a_path_of_the_study_stays_relative(study, monkeypatch):
    project = str(study.parent / "project")
    monkeypatch.chdir(study)
    assert locate("data/cells", "run.yaml", project) == "data/cells"
    assert locate("config/markers.tsv", "run.yaml", project) == f"{project}/config/markers.tsv"


def test_a_default_and_a_key_of_the_command_line_start_from_the_project(study):
    sources = {str(study / "run.yaml"): {"labeling": {"seed": 1}}, "--config": {"labels": "data/cells"}}
    assert locate_key("labeling.markers", "data/cells", sources, "") == "data/cells"
    assert locate_key("labels", "data/cells", sources, "") == "data/cells"
    sources[str(study / "run.yaml")]["labeling"]["markers"] = "data/cells"
    assert locate_key("labeling.markers", "data/cells", sources, "") == f"{study}/data/cells"


@pytest.mark.parametrize("directory", [ROOT, "study"])
def test_a_study_lies_whole_outside_the_project(tmp_path, monkeypatch, directory):
    """Sheet, bundle, markers and annotation beside the run file; labels.tsv is the default, from the project."""
    for name in ("outs/experiment.xenium", "markers.tsv", "annotation/mine.tsv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "slides.tsv").write_text("slide\tkind\torgan\tbundle\nmine\txenium\tlung\touts\n")
    raw = {"run": "own", "slides": "slides.tsv", "study": {"label": ["mine"]}}
    raw["labeling"] = {"markers": "markers.tsv", "annotation": "annotation"}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(raw))
    monkeypatch.chdir(tmp_path if directory == "study" else directory)
    run = load_run(raw, root=ROOT, sources={os.path.relpath(tmp_path / "run.yaml"): raw})
    paths = (run.config.slides, run.config.labeling.markers, run.slides["mine"].manifest, run.annotation("mine", "tsv"))
    assert [os.path.abspath(path) for path in paths] == [  # noqa: PTH100, because they may be relative.
        f"{tmp_path}/{name}" for name in ("slides.tsv", "markers.tsv", "outs/experiment.xenium", "annotation/mine.tsv")
    ]
    assert os.path.abspath(run.config.labels) == f"{ROOT}/config/labels.tsv"  # noqa: PTH100
    assert run.folders["results"] == "results/own"
