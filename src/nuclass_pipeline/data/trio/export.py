"""Copies of the annotations and patches of a slide that need no other file."""

import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import h5py
import numpy as np

from nuclass_pipeline.config.loading.trios import ANNOTATIONS
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import READ_ERRORS, WindowReader, damaged_h5, open_window_file, read_json, require_file, whole_files
from nuclass_pipeline.layout import USUAL_PX, patch_file

Track = Callable[[Sequence[int], str], Iterable[int]]
"""Shows the progress of a loop: its rows and a name → the rows."""


def export_trio(slide: Path, target: Path, track: Track = lambda rows, _: rows) -> None:
    """Write copies of `annotations.json` and of both patch files of a slide, with the pixels in them.

    Parameters
    ----------
    slide
        Folder with the three files; their windows may point into `image.h5` beside them.
    target
        Folder to write.
    track
        Shows the progress of each file.

    Raises
    ------
    UserError
        If a file is missing or broken, or the target already holds one of the three.
    """
    read_json(slide / ANNOTATIONS)
    names = _patch_files(slide)
    _require_space(slide, names, target)
    targets = [target / name for name in (ANNOTATIONS, *names.values())]
    if found := [path for path in targets if path.exists()]:
        raise UserError(found[0], "file", "it exists already", "Name a new folder, or remove the files in it.")
    with whole_files(*targets) as (annotations, *patches):
        shutil.copyfile(slide / ANNOTATIONS, annotations)
        for name, partial in zip(names.values(), patches, strict=True):
            _copy_patches(slide / name, partial, track)


def _patch_files(slide: Path) -> dict[int, str]:
    """Return the side of the patches, px → name of their file; those of `USUAL_PX` where there are not two."""
    sides = sorted(int(found[1]) for path in slide.glob("patches_*.h5") if (found := re.fullmatch(r"patches_(\d+)x\1\.h5", path.name)))
    return {side_px: patch_file(side_px) for side_px in (sides if len(sides) == len(USUAL_PX) else USUAL_PX)}


def _require_space(slide: Path, names: dict[int, str], target: Path) -> None:
    needed = 0
    for side_px, name in names.items():
        windows = WindowReader(require_file(slide / name))
        if windows.side_px != side_px:
            raise UserError(
                slide / name, "images", f"its windows are {windows.side_px} px wide", f"Rename it to {patch_file(windows.side_px)}."
            )
        needed += windows.cells * 3 * side_px**2
    folder = next(path for path in (target, *target.absolute().parents) if path.is_dir())
    if (free := shutil.disk_usage(folder).free) < needed:
        problem = f"copies take up to {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free"
        raise UserError(target, "disk", problem, "Name a folder on a larger disk, or copy image.h5 with the patches instead.")


def _copy_patches(source: Path, target: Path, track: Track) -> None:
    windows = WindowReader(source)
    shape = (windows.cells, windows.side_px, windows.side_px, 3)
    with open_window_file(source) as file, h5py.File(target, "w", libver="v110") as copy:
        try:
            for name in {"keys", "padded", "reason"} & set(file):
                file.copy(name, copy)
            copy.attrs.update({name: file.attrs[name] for name in {"mpp", "fill"} & set(file.attrs)})
            images = copy.create_dataset("images", shape, np.uint8, chunks=(1, *shape[1:]), compression="lzf")
            for row in track(range(len(images)), source.name):
                images[row] = windows.read([row])[0]
        except READ_ERRORS as error:
            raise damaged_h5(source, error) from error
