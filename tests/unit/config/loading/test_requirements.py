"""Weights, models and GPU are missed when the run file is read, with a remedy that is a command of this machine."""

import copy
import tomllib

import pytest
import yaml

from nuclass_pipeline.config.image import CELLPOSE_PACKAGE_REMEDY
from nuclass_pipeline.config.loading import requirements
from nuclass_pipeline.config.run import load_run
from nuclass_pipeline.errors import UserError
from tests import ROOT


@pytest.fixture
def demo():
    return yaml.safe_load((ROOT / "config/demo.yaml").read_text())


def load(raw, monkeypatch, tmp_path, **options):
    """Read a run file where no results are, and inputs are found."""
    if not (tmp_path / "config").exists():
        (tmp_path / "config").symlink_to(ROOT / "config")
    monkeypatch.chdir(tmp_path)
    return load_run(raw, file="config/demo.yaml", **options)


def edited(raw, **changes):
    raw = copy.deepcopy(raw)
    for path, value in changes.items():
        *folders, last = path.split("__")
        section = raw
        for folder in folders:
            section = section.setdefault(folder, {})
        section[last] = value
    return raw


CASES = {
    "unknown": ({"local__backbone": {"name": "uni2h"}}, r"local.backbone.name: 'uni2h': unknown encoder, did you mean 'uni2-h'\?"),
    "path": ({"global__context": {"name": "../x"}}, r"global.context.name: '../x': unknown encoder. Use one of uni2-h, dinov3-vitl16"),
    "no key": ({"local__backbone": {"name": "uni2-h"}}, "local.backbone.weights: the folder is missing, and uni2-h needs trained"),
    "no folder": (
        {"local__backbone": {"name": "uni2-h", "weights": "resources/weights/uni2-h"}},
        "local.backbone.weights: resources/weights/uni2-h: the folder holds neither model.safetensors nor",
    ),
    "context": ({"global__context": {"name": "dinov3-vitl16", "weights": "x"}}, "global.context.weights: x: the folder holds neither"),
    "not read": (
        {"local__backbone": {"name": "tiny-resnet", "weights": "x"}},
        "local.backbone.weights: x: tiny-resnet starts from random weights",
    ),
    "cellpose": ({"segmentation": {"method": "cellpose"}}, "segmentation.weights: resources/weights/cellpose/cpsam_v2 does not exist.* hf"),
    "model": ({"proposals": {"annotator": "llm-score", "model": "m"}}, "proposals.model: m holds no config.json. Set `proposals"),
    "markers": ({"labeling": {"markers": "none.tsv"}}, "labeling.markers: none.tsv does not exist"),
    "GPU": ({"compute__gpu": 1}, "compute.gpu: is 1, but this machine has no GPU and no scheduler of a cluster. Set it to 0"),
}


@pytest.fixture
def bare(monkeypatch):
    """A machine with all packages, without GPU and cluster."""
    monkeypatch.setattr(requirements, "find_spec", lambda name: object())
    monkeypatch.setattr(requirements, "_GPUS", ())
    monkeypatch.setattr(requirements, "_SCHEDULERS", ())
    for name in requirements._JOBS:
        monkeypatch.delenv(name, raising=False)


def require(run):
    """Look for everything that some rule of the run needs."""
    return [*run.encoder_weights("local.backbone"), *run.encoder_weights("global.context"), *run.segmenter_weights]


@pytest.mark.parametrize("case", CASES)
def test_what_is_missing_is_one_line(demo, bare, monkeypatch, tmp_path, case):
    changes, message = CASES[case]
    with pytest.raises(UserError, match=rf"^config/demo.yaml: {message}"):
        require(load(edited(demo, **changes), monkeypatch, tmp_path))


def test_what_is_there_is_an_input(demo, bare, monkeypatch, tmp_path):
    for name in ("w/model.safetensors", "w/config.json", "cp", "m/config.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    raw = edited(
        demo,
        local__backbone={"name": "uni2-h", "weights": "w/"},
        segmentation={"method": "cellpose", "weights": "cp"},
        proposals={"annotator": "llm-score", "model": "m"},
    )
    run = load(raw, monkeypatch, tmp_path)
    assert require(run) == ["w/model.safetensors", "w/config.json", "cp"]


PACKAGES = {
    "cellpose": (
        {"segmentation": {"method": "cellpose", "weights": "config/demo.yaml"}},
        "segmenter_weights",
        r"segmentation.method: the package cellpose is not installed. pip install -e '.\[cellpose\]' in the folder of the project, or set",
    ),
    "rapids_singlecell": (
        {"clustering": {"backend": "rapids"}},
        "clustering_needs",
        r"clustering.backend: the package rapids-singlecell is not installed. Install rapids-singlecell on a machine with an NVIDIA GPU",
    ),
}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_missing_package_is_one_line_where_a_job_of_the_plan_needs_it(demo, bare, monkeypatch, tmp_path, package):
    """The run loads, because other jobs do not need it; the others of the registry need no package."""
    changes, rule_input, message = PACKAGES[package]
    asked = []
    monkeypatch.setattr(requirements, "find_spec", lambda name: asked.append(name))
    assert getattr(load(demo, monkeypatch, tmp_path), rule_input) == []
    run = load(edited(demo, **changes), monkeypatch, tmp_path)
    assert asked == []
    with pytest.raises(UserError, match=f"^config/demo.yaml: {message}"):
        getattr(run, rule_input)
    assert asked == [package]
    monkeypatch.setattr(requirements, "find_spec", lambda name: object())
    assert getattr(run, rule_input) == run.config.segmentation.method.count("cellpose") * ["config/demo.yaml"]


def test_the_remedy_names_an_extra_of_the_project():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras["cellpose"][0].startswith("cellpose")
    assert "pip install -e '.[cellpose]'" in CELLPOSE_PACKAGE_REMEDY


@pytest.mark.parametrize("sign", ["GPU", "scheduler", "job"])
def test_a_gpu_may_be_on_another_machine(demo, bare, monkeypatch, tmp_path, sign):
    (tmp_path / "sbatch").touch(mode=0o755)
    if sign == "GPU":
        monkeypatch.setattr(requirements, "_GPUS", (str(tmp_path / "sbatch"),))
    elif sign == "scheduler":
        monkeypatch.setattr(requirements, "_SCHEDULERS", ("sbatch",))
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        monkeypatch.setenv("SLURM_JOB_ID", "1")
    assert load(edited(demo, compute__gpu=1), monkeypatch, tmp_path).encoder_weights("local.backbone") == []


@pytest.mark.parametrize("gpus", [0, 1, 2, 4])
def test_too_few_gpus_are_missed_before_the_training(demo, bare, monkeypatch, tmp_path, gpus):
    for name in ("nvidiactl", "nvidia-uvm", *(f"nvidia{number}" for number in range(gpus))):
        (tmp_path / name).touch()
    monkeypatch.setattr(requirements, "_GPUS", (str(tmp_path / "nvidiactl"),))
    monkeypatch.setattr(requirements, "_DEVICES", tmp_path)
    run = load(edited(demo, compute__gpu=1, compute__devices=4), monkeypatch, tmp_path)
    # Without a count the job looks, because not all drivers give one.
    if gpus in (0, 4):
        assert run.encoder_weights("local.backbone") == []
        return
    with pytest.raises(UserError, match=rf"compute\.devices: is 4, but this machine has {gpus} GPUs? and .* Set it to {gpus}, or run on"):
        run.encoder_weights("local.backbone")
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    assert run.encoder_weights("local.backbone") == []


def test_labels_alone_need_no_weights_and_no_gpu(demo, bare, monkeypatch, tmp_path):
    run = load(edited(demo, local__backbone={"name": "uni2-h"}, compute__gpu=1), monkeypatch, tmp_path)
    with pytest.raises(UserError, match=r"compute\.gpu: is 1"):
        run.encoder_weights("local.backbone")
    assert run.segmenter_weights == []


def test_finished_results_and_jobs_do_not_look_for_files(demo, bare, monkeypatch, tmp_path):
    raw = edited(demo, proposals={"annotator": "llm-score", "model": "m"})
    assert load(raw, monkeypatch, tmp_path, is_job=True)
    (tmp_path / "results/demo/metrics").mkdir(parents=True)
    assert load(raw, monkeypatch, tmp_path)
