"""Each recipe of docs/extending.md, performed in a copy of the project: its commands run and print what the page shows."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.workflow.recipes import commands, read_recipes

RECIPES = read_recipes()
EXPECTED = {
    "slide", "organ", "class", "raw label", "backbone", "segmentation method", "marker source", "cell annotator",
    "figure", "table", "metric", "baseline model", "export",
}  # fmt: skip
COPIED = ("Snakefile", "Makefile", "pyproject.toml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "workflow", "config", "profiles",
          "src", "tests", "docs")  # fmt: skip


def test_the_page_has_every_recipe():
    assert {name.removeprefix("A ").removeprefix("An ") for name in RECIPES} >= EXPECTED


@pytest.fixture
def copy(tmp_path):
    """Return a copy of everything that a recipe may change, with the environment linked in."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copyfile(source, tmp_path / name)
    (tmp_path / ".venv").symlink_to(Path(sys.prefix), target_is_directory=True)
    return tmp_path


@pytest.mark.parametrize("name", [name for name in RECIPES if name.removeprefix("A ").removeprefix("An ") in EXPECTED])
def test_a_recipe_works(name, copy):
    for block in RECIPES[name]:
        block.perform(copy)
    consoles = [block for block in RECIPES[name] if block.language == "console"]
    assert consoles, "a recipe ends with a command that shows that it worked"
    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1", "COLUMNS": "140"}
    for command, shown in (pair for block in consoles for pair in commands(block)):
        done = subprocess.run(command, shell=True, cwd=copy, env=environment, capture_output=True, text=True, check=False)
        printed = [" ".join(line.split()) for line in (done.stdout + done.stderr).splitlines()]
        missing = [line for line in shown if line not in ("…", "") and " ".join(line.split()) not in printed]
        assert not missing, f"{command} did not print {missing}, but:\n" + "\n".join(printed[-40:])
