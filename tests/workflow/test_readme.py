"""Every command of README.md is run: those that need no model on a small slide, and all of them in order on a finished demo."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from nuclass_pipeline.config.synthetic import SyntheticConfig
from nuclass_pipeline.phantom import make_slide
from tests import ROOT
from tests.workflow.project import Project
from tests.workflow.readme import BLOCKS, README, Command, read_commands, scores_of_page, scores_of_screen
from tests.workflow.slurm import write_slurm

COMMANDS = read_commands()
MAKE = "its packages are installed already, and a test has no network"
CHANGED = {
    "make demo": ("make -o .venv/demo demo", MAKE),
    "UV_TORCH_BACKEND=cpu make demo": ("UV_TORCH_BACKEND=cpu make -o .venv/demo demo", MAKE),
    "make .venv/demo": ("make -n .venv/demo", MAKE),
    "git clone https://github.com/TopoXLab/Dataset-BRCA-M2C": ("git --version", "a test has no network"),
    "make demo-real BRCA=Dataset-BRCA-M2C": (
        "make -n -o .venv/weights demo-real BRCA=Dataset-BRCA-M2C",
        "its images are downloaded, and its training takes minutes; test_demo_real has the steps",
    ),
    "make test": (
        "PYTEST_ADDOPTS='--collect-only --quiet' make -o .venv/dev test",
        f"{MAKE}; the tests would run this test, so they are only collected",
    ),
    ".venv/bin/nuclass check BUNDLE --image HE.ome.tif --alignment he_imagealignment.csv --organ lung --overlay check.png": (
        ".venv/bin/nuclass check resources/synthetic/demo-lung-2/outs --image resources/synthetic/demo-lung-2/demo-lung-2_he_image.ome.tif"
        " --alignment resources/synthetic/demo-lung-2/demo-lung-2_he_imagealignment.csv --organ lung --overlay check.png",
        "its files are the reader's; here they are those of a slide of the demo",
    ),
    ".venv/bin/snakemake --cores 8 --configfile config/mine.yaml": (
        ".venv/bin/snakemake --cores 8 --configfile config/mine.yaml -n",
        "it would train on the reader's slides; the run file is made as the page says, and the training is that of the demo",
    ),
    ".venv/bin/snakemake --cores 32 --configfile config/paper.yaml": (
        "PATH=$PWD/slurm:$PATH .venv/bin/snakemake --cores 32 --configfile config/paper.yaml -n",
        "it downloads slides, reads weights that need a licence, and needs a GPU with 80 GB; here empty files are in their place",
    ),
    ".venv/bin/pip install -e '.[slurm]'": (
        ".venv/bin/python -m pip install --dry-run --no-deps --no-build-isolation -e '.[slurm]'",
        "it downloads packages",
    ),
    ".venv/bin/snakemake --profile profiles/slurm": (
        "PATH=$PWD/slurm:$PATH .venv/bin/snakemake --profile profiles/slurm",
        "it needs a cluster; here programs with SLURM's names run the jobs, and test_slurm has a cluster",
    ),
}
"""Commands that a test cannot run as they are: what is run in their place, and why."""

SLIDE = "resources/synthetic/demo-lung-2"
QUICK = [text for text in COMMANDS if re.match(r"\.venv/bin/nuclass (doctor|label|check) ?", text)]


def run(command: str, folder: Path) -> str:
    """Run a command in a shell and return what it prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "140"}
    if (folder / "src").is_dir():
        environment["PYTHONPATH"] = str(folder / "src")
    bash = ["bash", "-o", "pipefail", "-c", CHANGED.get(command, (command, ""))[0]]
    done = subprocess.run(bash, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=3600)
    assert done.returncode == 0, f"{command} failed:\n{(done.stdout + done.stderr)[-3000:]}"
    return done.stdout + done.stderr


def link_environment(folder: Path) -> None:
    (folder / ".venv").symlink_to(Path(sys.prefix), target_is_directory=True)


def test_the_table_of_changed_commands_names_commands_of_the_page():
    assert len(COMMANDS) > 12
    assert set(CHANGED) <= set(COMMANDS)
    assert all(reason for _, reason in CHANGED.values())


def test_blocks_hold_commands_outputs_and_python():
    """Else a block that `read_commands` does not know would be run by no test."""
    assert {language for language, _ in BLOCKS} == {"", "text", "python"}
    assert all(re.match(r"(\w+=\S+ )*(make |git clone |\.venv/bin/(snakemake|nuclass|pip) )", text) for text in COMMANDS), COMMANDS
    assert [bool(command.shown) for command in COMMANDS.values()].count(True) == [language for language, _ in BLOCKS].count("text")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Return a folder with a small slide in the place of one of the demo."""
    folder = tmp_path_factory.mktemp("small")
    link_environment(folder)
    shutil.copytree(ROOT / "config", folder / "config")
    place = folder / SLIDE
    files = {"image": f"{place.name}_he_image.ome.tif", "alignment": f"{place.name}_he_imagealignment.csv", "truth": "truth.parquet"}
    paths = {name: place / file for name, file in files.items()}
    make_slide(organ="lung", seed=12, config=SyntheticConfig(cells=300), manifest=place / "outs/experiment.xenium", **paths)
    return folder


@pytest.mark.long
@pytest.mark.parametrize("text", QUICK)
def test_commands_that_need_no_model_run_on_a_small_slide(text, small):
    screen = run(text, small)
    # Counts are those of the larger slide.
    shown = tuple(line for line in COMMANDS[text].shown if line.startswith(("files:", " label", "…")))
    assert Command(text, shown).missing_in(screen) == []
    if " --overlay " in text:
        assert (small / "check.png").stat().st_size > 10_000


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Return a copy of the project after `make demo`, and what that printed.

    With NUCLASS_DEMO_RESULTS, a project folder in which the demo was run, its results are copied and taken as up to date.
    """
    project = Project(tmp_path_factory.mktemp("demo"))
    link_environment(project.folder)
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        shutil.copyfile(ROOT / name, project.folder / name)
    for name in ("src", "tests", "docs", "benchmarks"):
        shutil.copytree(ROOT / name, project.folder / name, ignore=shutil.ignore_patterns("__pycache__", "demo"))
    if made := os.environ.get("NUCLASS_DEMO_RESULTS"):
        for name in ("results/demo", "resources/synthetic", "logs/demo", "benchmarks/demo"):
            # Logs and benchmarks are absent where only results were moved.
            if (Path(made) / name).is_dir():
                shutil.copytree(Path(made) / name, project.folder / name)
        run(".venv/bin/snakemake --cores 2 --touch", project.folder)
    screen = run("make demo", project.folder)
    add_what_the_page_says(project)
    for name in ("uni2-h", "dinov3-vitl16"):
        (project.folder / "resources/weights" / name).mkdir(parents=True)
        (project.folder / "resources/weights" / name / "model.safetensors").touch()
    write_slurm(project.folder / "slurm")
    return project.folder, screen


def add_what_the_page_says(project: Project) -> None:
    """Add slides and run file of one's own, and a second run to compare with."""
    for name in ("demo-lung-1", "demo-lung-2"):
        start = f"resources/synthetic/{name}"
        files = {
            "bundle": f"{start}/outs",
            "image": f"{start}/{name}_he_image.ome.tif",
            "alignment": f"{start}/{name}_he_imagealignment.csv",
        }
        project.add_slide(slide=name.replace("demo", "my"), kind="xenium", organ="lung", **files)
    for name in ("mine", "second"):
        shutil.copyfile(project.folder / "config/demo.yaml", project.folder / f"config/{name}.yaml")
    project.edit(lambda raw: raw.update(run="mine", study={"train": ["my-lung-1"], "heldout": ["my-lung-2"], "predict": []}), "mine")
    project.edit(lambda raw: raw.update(run="second", slides_from="demo"), "second")
    project.edit(lambda raw: raw["local"].update(backbone={"name": "tiny-vit", "image_px": 112}), "second")
    # The scores of a second run stand in for those of another encoder, whose training takes ten minutes.
    shutil.copytree(project.folder / "results/demo", project.folder / "results/second", ignore=shutil.ignore_patterns("slides", "models"))
    file = project.folder / "results/second/config.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), "run": "second"}, sort_keys=False))


@pytest.mark.slow
@pytest.mark.parametrize("text", COMMANDS)
def test_every_command_of_the_page_runs_after_the_demo_and_prints_what_is_shown(text, demo):
    assert COMMANDS[text].missing_in(run(text, demo[0])) == []


@pytest.mark.slow
def test_the_demo_ends_with_the_scores_of_the_page(demo):
    """Within 0.06, which the page gives as the difference between processors."""
    found, quoted = scores_of_screen(demo[1]), scores_of_page("demo-")
    assert len(quoted) == 6
    for key, values in quoted.items():
        assert found[key] == pytest.approx(values, abs=0.06), key
    assert "report: results/demo/report.html" in demo[1]


@pytest.mark.slow
def test_a_second_make_demo_finds_nothing_to_do(demo):
    assert "Nothing to be done" in run("make demo", demo[0])


@pytest.mark.slow
def test_one_figure_is_drawn_again_by_either_name(demo):
    folder = demo[0]
    for name in ("figure_confusion", "fig3"):
        assert name in README
        (folder / "results/demo/figures/confusion.pdf").unlink()
        run(f".venv/bin/snakemake --cores 1 {name}", folder)
        assert (folder / "results/demo/figures/confusion.pdf").stat().st_size > 10_000


@pytest.mark.slow
def test_the_profile_sends_a_job_to_slurm_and_requests_no_gpu(demo):
    figure = demo[0] / "results/demo/figures/confusion.pdf"
    figure.unlink()
    run(".venv/bin/snakemake --profile profiles/slurm", demo[0])
    assert figure.stat().st_size > 10_000
    calls = [line.split("--wrap=")[0] for line in (demo[0] / "slurm/sbatch.calls").read_text().splitlines()]
    assert any("rule_figure_confusion" in call for call in calls)
    assert all("-p cpu" in call and "gpu" not in call for call in calls)


@pytest.mark.slow
def test_a_second_run_plans_as_many_jobs_as_the_page_says(demo):
    few, all_ = (int(number) for number in re.search(r"plans (\d+) jobs instead of (\d+)", README).groups())
    # Under another name, because the second run of the page has scores already.
    command = ".venv/bin/snakemake -n --configfile config/second.yaml --config run=third"
    assert Project.jobs_in(run(command, demo[0]))["total"] == few
    path = demo[0] / "config/second.yaml"
    path.write_text(path.read_text().replace("slides_from: demo\n", ""))
    assert Project.jobs_in(run(command, demo[0]))["total"] == all_


@pytest.mark.slow
def test_the_python_block_runs(demo):
    """With patches of the demo as the reader's own pixels."""
    (block,) = (text for language, text in BLOCKS if language == "python")
    pixels = """
import nuclass_pipeline as nuclass
run = nuclass.open_run("results/demo")
crops, contexts = (run.patches("demo-lung-2", side_px).read([0, 1]) for side_px in (224, 1024))
assert crops.shape == (2, 224, 224, 3) and contexts.shape == (2, 1024, 1024, 3)
"""
    code = f"{pixels}\n{block}\nassert len(run.predictions('demo-lung-2')) == 2500\n"
    (demo[0] / "page.py").write_text(code)
    run(".venv/bin/python page.py", demo[0])
