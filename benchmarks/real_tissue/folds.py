"""The folds of a data set: imported, run by Snakemake one after the other, with what does not depend on the fold made once."""

import filecmp
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nuclass_pipeline.config.loading.run_files import read_run_files
from nuclass_pipeline.config.models import SCORED_MODELS
from nuclass_pipeline.config.run import Run, load_run
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.layout import BASE, files

ROOT = Path(__file__).parents[2]
OWN = ("split.parquet", "cells.*.seed-*.h5")
"""Files of a slide that depend on its role in the fold, and on the models."""


@dataclass(frozen=True)
class Fold:
    """A run that holds out one slide.

    Attributes
    ----------
    run_file
        Its run file.
    folder
        Folder in which it runs: the one with `results`, `logs` and `benchmarks`.
    """

    run_file: Path
    folder: Path

    @cached_property
    def run(self) -> Run:
        """Its run file as checked."""
        sources = read_run_files([self.run_file])
        return load_run(next(iter(sources.values())), root=ROOT, sources=sources)

    @property
    def heldout(self) -> str:
        """The slide that it holds out."""
        return self.run.heldout_slides[0]

    @property
    def slides(self) -> Path:
        """Folder of its slides."""
        return self.folder / self.run.folders["slides"]

    @property
    def benchmarks(self) -> Path:
        """Folder of what its jobs took."""
        return self.folder / self.run.folders["benchmarks"]

    @property
    def cores(self) -> int:
        """Threads of its jobs that compute features."""
        return self.run.config.compute.threads

    def file(self, path: str, **wildcards: object) -> Path:
        """Return one of `layout.files`, below the folder of the fold."""
        for name, value in (self.run.path_parts | wildcards).items():
            path = path.replace(f"<{name}>", str(value)).replace(f"{{{name}}}", str(value))
        return self.folder / path

    def features(self, slide: str) -> dict[str, Path]:
        """Return the features of a slide by what they are of: local or context.

        Raises
        ------
        UserError
            If an encoder is trained, because a probe and a cache need features that are the same in all folds.
        """
        fields = {"local": "local.backbone", "context": "global.context"}
        if trained := [field for field in fields.values() if field not in self.run.frozen]:
            raise UserError(self.run_file, f"{trained[0]}.freeze", "it is false, and folds share frozen features", "Set it to true.")
        return {name: self.file(self.run.frozen[field], slide=slide) for name, field in fields.items()}

    def predictions(self, model: str) -> Path:
        """Return the predictions of a model for the slide that is held out."""
        return self.file(files.predictions, variant=BASE, model=model, seed=self.run.seeds[0], slide=self.heldout)

    def command(self, cores: str, *options: str) -> list[str]:
        """Return the command that makes its predictions."""
        targets = [str(self.predictions(model).relative_to(self.folder)) for model in SCORED_MODELS]
        # Targets first, because `--configfile` takes all that follow.
        names = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(self.folder), "--configfile", str(self.run_file)]
        return [sys.executable, "-m", "snakemake", *targets, "--cores", cores, *options, *names]


def import_folds(source: Path, layout: str, folder: Path, folds: int, seed: int) -> list[Fold]:
    """Import a data set into `folder/study`, and return its folds.

    A study that is there already is imported again. Files that are as before keep their times, so nothing is made again from them.

    Raises
    ------
    SystemExit
        If the data set cannot be imported; `nuclass import-points` has then said why.
    """
    folder = folder.resolve()
    study, before = folder / "study", folder / "study.before"
    if study.is_dir() and not before.is_dir():
        study.replace(before)
    if study.is_dir():  # An import that was cut off, because the study before it is still there.
        shutil.rmtree(study)
    command = [str(Path(sys.executable).with_name("nuclass")), "import-points", str(source.resolve()), "--layout", layout]
    command += ["--out", str(study), "--folds", str(folds), "--seed", str(seed)]
    if code := subprocess.run(command, check=False, cwd=ROOT).returncode:
        if before.is_dir():
            before.replace(study)
        raise SystemExit(code)
    _keep_times(before, study)
    return [Fold(study / f"fold-{number}.yaml", folder) for number in range(1, folds + 1)]


def _keep_times(before: Path, study: Path) -> None:
    for path in (path for path in study.rglob("*") if path.is_file()):
        old = before / path.relative_to(study)
        if old.is_file() and filecmp.cmp(old, path, shallow=False):
            old.replace(path)
    shutil.rmtree(before, ignore_errors=True)


def run_folds(folds: list[Fold], cores: str) -> None:
    """Run the folds one after the other; slides and features come from the first.

    Raises
    ------
    UserError
        If a run fails; Snakemake has then said why.
    """
    for number, fold in enumerate(folds, start=1):
        print(f"{fold.run.config.run}: fold {number} of {len(folds)}, {fold.heldout} is held out", flush=True)
        if number > 1:
            share_slides(folds[0].slides, fold.slides)
        if code := subprocess.run(fold.command(cores), check=False, cwd=ROOT).returncode:
            problem = f"Snakemake ended with exit code {code}"
            raise UserError(fold.run_file, "run", problem, "Correct what the lines above name, and run again: what is made is kept.")


def share_slides(made: Path, other: Path) -> int:
    """Link what one run has made of its slides into another, and return the number of new links.

    `slides_from` does not do, because the slides have other roles in the other run. Hard links keep the times of the files, and without a
    record of how a file was made Snakemake compares the times alone.
    """
    linked = 0
    for path in sorted(made.rglob("*")):
        if not path.is_file() or path.name.startswith(".") or any(path.match(pattern) for pattern in OWN):
            continue
        target = other / path.relative_to(made)
        if target.is_file() and target.samefile(path):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        os.link(path, target)
        linked += 1
    return linked
