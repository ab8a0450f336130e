"""A copy of the workflow in a folder of its own, and Snakemake in it."""

import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from tests import ROOT


class Project:
    """A copy of the workflow.

    Parameters
    ----------
    folder
        Where to copy it.
    source
        What to copy it from.
    """

    def __init__(self, folder: Path, source: Path = ROOT) -> None:
        self.folder = folder
        for name in ("Snakefile", "workflow", "config", "profiles"):
            copy = shutil.copytree if (source / name).is_dir() else shutil.copyfile
            copy(source / name, folder / name)

    @staticmethod
    def command(*arguments: str) -> list[str]:
        return [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*arguments), cwd=self.folder, capture_output=True, text=True, check=False)

    def edit(self, change, name="demo"):
        """Change a run file."""
        path = self.folder / f"config/{name}.yaml"
        raw = yaml.safe_load(path.read_text())
        change(raw)
        path.write_text(yaml.safe_dump(raw, sort_keys=False))

    def add_slide(self, **values: str) -> None:
        """Add a row to the slide sheet."""
        sheet = self.folder / "config/slides.tsv"
        header = sheet.read_text().splitlines()[0].split("\t")
        sheet.write_text(sheet.read_text() + "\t".join(values.get(name, "") for name in header) + "\n")

    def planned(self, *arguments: str) -> dict[str, int]:
        """Return rule → number of jobs of a dry run."""
        done = self.snakemake("-n", *arguments)
        assert done.returncode == 0, done.stderr[-2000:]
        return self.jobs_in(done.stdout)

    @staticmethod
    def jobs_in(screen: str) -> dict[str, int]:
        """Return rule → number of jobs, from what a dry run prints."""
        table = screen.split("Job stats:\n")[1].split("\n\n")[0].splitlines()[2:]
        return {name: int(count) for name, count, *_ in (row.split() for row in table)}
