"""Run Snakemake on a copy of the workflow, with results of its own."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path):
    """A folder with the workflow and config in it, where a run writes."""
    for name in ("Snakefile", "workflow", "config", "profiles"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, tmp_path / name)
    return Project(tmp_path)


class Project:
    """A copy of the workflow."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)

    def edit(self, change, name="demo"):
        path = self.folder / f"config/{name}.yaml"
        raw = yaml.safe_load(path.read_text())
        change(raw)
        path.write_text(yaml.safe_dump(raw, sort_keys=False))

    def planned(self, *arguments: str) -> dict[str, int]:
        """Return rule → number of jobs of a dry run."""
        done = self.snakemake("-n", *arguments)
        assert done.returncode == 0, done.stderr[-2000:]
        table = done.stdout.split("Job stats:\n")[1].split("\n\n")[0].splitlines()[2:]
        return {name: int(count) for name, count in (row.split() for row in table)}
