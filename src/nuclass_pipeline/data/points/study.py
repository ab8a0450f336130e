"""A data set of images with points as a study: a folder for each slide, the slide sheet, the label map, and a run file for each fold."""

import csv
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nuclass_pipeline.arrays import Integers
from nuclass_pipeline.config.loading.points import IMAGES, POINTS, PointImage
from nuclass_pipeline.data.cases import assign_cases
from nuclass_pipeline.data.image.slide import HeImage
from nuclass_pipeline.data.points.point_set import PointSet
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import quote_row, whole_file

MIN_FOLDS = 2
SUBSETS_OF_A_SLIDE = 3
"""Cases that a training slide needs: one for each subset of its split."""


def spread_cases(found: PointSet, folds: int, seed: int = 0) -> dict[str, int]:
    """Return the fold of each case, counted from 1, so that the classes, and the groups if there are any, are alike in all folds.

    Raises
    ------
    UserError
        If there are too few cases for the folds, or a fold would have fewer than three.
    """
    cases = sorted({image.case for image in found.images.values()})
    if folds < MIN_FOLDS or len(cases) < SUBSETS_OF_A_SLIDE * folds:
        most = len(cases) // SUBSETS_OF_A_SLIDE
        remedy = f"Use 2 to {most}." if most >= MIN_FOLDS else "Add images of other cases."
        problem = f"{folds} folds of {len(cases)} cases with labels; each fold needs {SUBSETS_OF_A_SLIDE}"
        raise UserError("nuclass import-points", "--folds", problem, remedy)
    order = np.random.default_rng(seed).permutation(len(cases))
    counts = _counts(found, cases)[order]
    chosen = assign_cases(counts, np.full(folds, 1 / folds), least=SUBSETS_OF_A_SLIDE)
    return {cases[case]: int(fold) + 1 for case, fold in zip(order, chosen, strict=True)}


def _counts(found: PointSet, cases: list[str]) -> Integers:
    """Return the cells of each case and class, and its images of each group, (C, K)."""
    case = [found.images[point.image].case for point in found.points]
    classes = pd.crosstab(pd.Series(case), pd.Series([point.raw for point in found.points])).reindex(cases, fill_value=0)
    names = [found.images[name].case for name in found.groups]
    groups = pd.crosstab(pd.Series(names, dtype=str), pd.Series([*found.groups.values()], dtype=str)).reindex(cases, fill_value=0)
    return np.hstack([classes.to_numpy(int), groups.to_numpy(int)])


def write_study(found: PointSet, out: Path, folds: Mapping[str, int], root: Path) -> list[Path]:
    """Write a data set as slides with a sheet, a label map and run files, and return the run files.

    Parameters
    ----------
    found
        The data set.
    out
        Folder to write, which must not exist, or be empty.
    folds
        Fold of each case.
    root
        Folder of the project: paths of the sheet start from there if `out` lies in it, and from `out` otherwise.

    Raises
    ------
    UserError
        If the folder is not empty, or a picture cannot be read.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(out, "--out", "it is not empty", "Remove it, or name another folder.")
    for image in found.images.values():
        for path in image.files:
            with HeImage(path):
                pass
    place = out.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    slides = [f"{found.name}-{fold}" for fold in sorted(set(folds.values()))]
    runs = [out / f"fold-{fold}.yaml" for fold in range(1, len(slides) + 1)]
    # Beside its place, because a folder that is there is whole.
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}-") as scratch:
        unfinished = Path(scratch, place.name)
        _write_files(found, unfinished, folds, slides, _prefix(place, root.resolve()), runs)
        unfinished.replace(place)
    return runs


def _prefix(out: Path, root: Path) -> str:
    """Return what paths of the sheet begin with."""
    return f"{out.relative_to(root).as_posix()}/" if out.is_relative_to(root) and out != root else ""


def _write_files(found: PointSet, folder: Path, folds: Mapping[str, int], slides: Sequence[str], prefix: str, runs: Sequence[Path]) -> None:
    for fold, slide in enumerate(slides, 1):
        _write_slide(found, folder / slide, {name: image for name, image in found.images.items() if folds[image.case] == fold})
    note = "made by nuclass import-points"
    _write(
        folder / "slides.tsv",
        ["slide", "kind", "organ", "bundle", "note"],
        ([s, "images", found.organ, prefix + s, note] for s in slides),
        "\t",
    )
    _write(folder / "labels.tsv", ["raw", "class", "reason"], ([raw, name, ""] for raw, name in found.classes.items()), "\t")
    for run_file, heldout in zip(runs, slides, strict=True):
        text = _run_file(found, run_file, prefix, [slide for slide in slides if slide != heldout], heldout)
        (folder / run_file.name).write_text(text)


def _write_slide(found: PointSet, folder: Path, images: Mapping[str, PointImage]) -> None:
    rows = []
    for name, image in images.items():
        files = [_copy(image.file, folder / "images", name)]
        context = ["", "", "", ""]
        if image.context_file:
            file = _copy(image.context_file, folder / "context", name)
            context = [file, f"{image.context_mpp:.10g}", *(f"{value:.6f}" for value in image.context_xy_px)]
        rows.append([name, *files, f"{image.mpp:.10g}", image.case, *context])
    columns = ["image", "file", "mpp", "case", "context_file", "context_mpp", "context_x_px", "context_y_px"]
    wide = len(columns) if any(image.context_file for image in images.values()) else 4
    _write(folder / IMAGES, columns[:wide], (row[:wide] for row in rows), ",")
    points = ([p.image, f"{p.x_px:.10g}", f"{p.y_px:.10g}", p.raw, p.cell_id] for p in found.points if p.image in images)
    _write(folder / POINTS, ["image", "x_px", "y_px", "class", "cell_id"], points, ",")


def _copy(file: Path, folder: Path, name: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}{file.suffix.lower()}"
    shutil.copyfile(file, target)
    return f"{folder.name}/{target.name}"


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]], separator: str) -> None:
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=separator, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(quote_row(row) for row in rows)


def _run_file(found: PointSet, path: Path, prefix: str, train: Sequence[str], heldout: str) -> str:
    colors = "".join(f'    {name}: "{color}"\n' for name, color in found.colors.items())
    return _RUN_FILE.format(
        about=f"{found.name}: {heldout} is held out, and the other folds are trained on. No case is in two folds.",
        path=prefix + path.name if prefix else path.resolve(),
        run=f"{found.name}-{path.stem}",
        prefix=prefix,
        train=", ".join(train),
        heldout=heldout,
        classes=", ".join(dict.fromkeys(found.classes.values())),
        colors=f"  colors:\n{colors}" if colors else "",
        head=_HEAD,
    )


_HEAD = """\
  standardize: true
  dropout: 0.5
  optim:
    lr_head: 1.0e-3
    weight_decay: 1.0e-2
    warmup_steps: 10
    schedule: cosine
    batch_size: 256
    accumulate: 1
    max_epochs: 10
    checks_per_epoch: 1
    patience: 10
"""
"""Of both paths: a short training, because a head on frozen features overfits after a few epochs."""
_RUN_FILE = """\
# {about}
# snakemake --cores 2 --configfile {path}      (needs `pip install -e '.[weights]'`: docs/backbones.md)
run: {run}
slides: {prefix}slides.tsv
labels: {prefix}labels.tsv
compute:
  gpu: 0
  threads: 2
  hours: 1
  precision: 32-true
  workers: 0
  cache_gb: 2
study:
  train: [{train}]
  heldout: [{heldout}]
  classes: [{classes}]
{colors}image:
  local_um: 32
  context_um: 64
local:
  backbone: {{name: efficientnet-lite0, image_px: 112, freeze: true}}
{head}global:
  context: {{name: efficientnet-lite0, image_px: 112, freeze: true}}
  fused_weight: 0
  global_weight: 1
{head}gate:
  kind: neighbors
"""
