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
    "figure", "table", "metric", "variant of the models", "baseline model", "export",
}  # fmt: skip
COPIED = ("Snakefile", "Makefile", "pyproject.toml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "workflow", "config", "profiles",
          "src", "tests", "docs")  # fmt: skip

PROBES = {
    "A cell annotator": """
from nuclass_pipeline.labeling.evidence import annotator_named
from tests.unit.labeling.test_evidence import faint_types
cells, _ = faint_types(0)
assert abs(annotator_named("shares")(cells).rank(cells).for_choice.sum(axis=1) - 1).max() < 1e-9
""",
    "A figure": """
from pathlib import Path
from nuclass_pipeline.figures.draw import draw_figure
from tests.unit.figures.fakes import write_cohort
draw_figure(name="classes", inputs={"cohort": write_cohort(Path("c.parquet"))}, options={}, outputs=[Path("classes.png")])
assert Path("classes.png").stat().st_size > 10_000
""",
    "A table": """
from pathlib import Path
from nuclass_pipeline.tables.classes import build
from tests.unit.figures.fakes import write_cohort
table = build(cohort=write_cohort(Path("c.parquet")))
assert list(table) == ["label", "cells"] and len(table) > 3 and table["cells"].min() > 0
""",
    "A baseline model": """
from pathlib import Path
import numpy as np, pandas as pd
from nuclass_pipeline.evaluate.prior import predict_prior
from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import PREDICTIONS, empty_labels
from tests.unit.evaluate.planted import one_hot, write_predictions
gate = write_predictions(Path("."), one_hot([0, 1, 2], 3), ["Acinar", "Ductal", "T_Cell"])
empty_labels(["a", "b", "c", "d"]).assign(label=["T_Cell", "T_Cell", "T_Cell", "Acinar"]).to_parquet("labels.parquet")
predict_prior(gate=gate, labels=[Path("labels.parquet")], prior=Path("prior.parquet"))
found = read_table("prior.parquet", PREDICTIONS)
assert set(found["predicted"]) == {"T_Cell"} and np.allclose(found[["p_Acinar", "p_Ductal", "p_T_Cell"]], [0.25, 0, 0.75])
""",
    "An export": """
from pathlib import Path
import pandas as pd
from nuclass_pipeline.export.csv import export_csv
from tests.unit.evaluate.planted import one_hot, write_predictions
export_csv(gate=write_predictions(Path("."), one_hot([0, 2], 3), ["Acinar", "T_Cell"]), csv=Path("cells.csv"))
found = pd.read_csv("cells.csv")
assert list(found["predicted"]) == ["Acinar", "T_Cell"] and abs(found["probability"] - 0.8).max() < 1e-6
""",
}
"""What shows that the code of a recipe runs, where planning does not."""


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
        bash = ["bash", "-o", "pipefail", "-c", command]
        done = subprocess.run(bash, cwd=copy, env=environment, capture_output=True, text=True, check=False)
        printed = [" ".join(line.split()) for line in (done.stdout + done.stderr).splitlines()]
        # 141: `head` closed the pipe.
        assert done.returncode in {0, 141}, f"{command} failed:\n" + "\n".join(printed[-40:])
        missing = [line for line in shown if line not in ("…", "") and " ".join(line.split()) not in printed]
        assert not missing, f"{command} did not print {missing}, but:\n" + "\n".join(printed[-40:])
    if name in PROBES:
        done = subprocess.run([sys.executable, "-c", PROBES[name]], cwd=copy, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
