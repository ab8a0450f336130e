"""`make demo-real`: what it does with its folder, and in what order, without installing or training anything."""

import os
import shutil
import subprocess

import pytest

from tests import ROOT

RUN_FILE = "resources/m2c/fold-1.yaml"
NUCLASS = f"""#!/bin/sh
echo nuclass "$@" >> calls
if [ "$1" = import-points ]; then mkdir -p resources/m2c && touch {RUN_FILE}; fi
"""
SNAKEMAKE = '#!/bin/sh\necho snakemake "$@" >> calls\nexit ${FAIL:-0}\n'
IMPORT = "nuclass import-points in --layout m2c --out resources/m2c --folds 5"
FOLD = f"snakemake --cores 2 --configfile {RUN_FILE}"
SUMMARY = "nuclass summary results/m2c-fold-1"


@pytest.fixture
def folder(tmp_path):
    """A folder with the Makefile, and programs that only note how they are called."""
    shutil.copyfile(ROOT / "Makefile", tmp_path / "Makefile")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for name, text in (("nuclass", NUCLASS), ("snakemake", SNAKEMAKE)):
        (tmp_path / ".venv/bin" / name).write_text(text)
        (tmp_path / ".venv/bin" / name).chmod(0o755)
    for name in ("images", "labels"):
        (tmp_path / "in" / name).mkdir(parents=True)
    return tmp_path


def make(folder, *arguments):
    command = ["make", "-o", ".venv/weights", "demo-real", "CORES=2", *arguments]
    # Without the variables of the make that may run the tests, because this make is not one of its own.
    outside = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}
    return subprocess.run(command, cwd=folder, env=outside, capture_output=True, text=True, check=False)


def calls(folder):
    return (folder / "calls").read_text().splitlines()


def test_the_first_call_imports_and_the_second_only_resumes(folder):
    assert make(folder, "BRCA=in", "FAIL=1").returncode != 0
    assert calls(folder) == [IMPORT, FOLD]
    done = make(folder)
    assert done.returncode == 0, done.stderr
    assert calls(folder) == [IMPORT, FOLD, FOLD, SUMMARY]


@pytest.mark.parametrize("argument", [(), ("BRCA=none",), ("BRCA=in/images",)])
def test_without_the_images_it_stops_before_it_installs_and_says_where_they_are(folder, argument):
    done = make(folder, *argument)
    assert done.returncode != 0 and not (folder / "calls").exists()
    # Make itself adds a line with the target.
    first, second = done.stderr.splitlines()
    given = argument[0].removeprefix("BRCA=") if argument else ""
    assert first == (
        f'error: make demo-real: BRCA: "{given}" has no folders images and labels. '
        "Type: git clone https://github.com/TopoXLab/Dataset-BRCA-M2C && make demo-real BRCA=Dataset-BRCA-M2C"
    )
    assert second.startswith("make: *** [") and "brca-m2c" in second


def test_a_folder_with_a_space_is_one_argument(folder):
    (folder / "in").rename(folder / "my images")
    done = make(folder, "BRCA=my images")
    assert done.returncode == 0, done.stderr
    assert calls(folder)[0] == IMPORT.replace(" in ", " my images ")


def test_the_weights_are_installed_after_the_check():
    plan = subprocess.run(["make", "-n", "-B", "demo-real"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    places = [
        plan.index(text) for text in ("test -d", "-m venv .venv", "-e .\n", "-e '.[weights]'", "import-points", "--configfile", "summary")
    ]
    assert places == sorted(places)
