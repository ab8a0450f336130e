"""Patch files of others, linked: a new file names the source and the place of each patch in it, and holds no pixels."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nuclass_pipeline.arrays import Integers
from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.config.loading.trios import too_narrow
from nuclass_pipeline.data.image.no_image import NO_TISSUE, is_blank
from nuclass_pipeline.data.image.patches import write_keys, write_reasons
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import (
    READ_ERRORS,
    NamedPatches,
    WindowReader,
    check_patch,
    first_line,
    has_named_patches,
    open_window_file,
    read_keys,
    read_texts,
    side_of,
    whole_file,
)
from nuclass_pipeline.io.hdf5.patch_files import FORMAT_REMEDY, ORIGIN, SOURCE
from nuclass_pipeline.io.hdf5.windows import SOURCE_ROW
from nuclass_pipeline.layout import patch_file
from nuclass_pipeline.runtime import track

logger = logging.getLogger(__name__)

PARTS = {"local_um": (0.0, 0.1, 0.9), "context_um": (0.9, 1.0, 1.0)}
"""Shares of the job at which the patches of a file begin to be found, are found, and are read."""


@dataclass(frozen=True)
class _Found:
    """Where the patches of the cells lie.

    Attributes
    ----------
    side_px
        Side of the patches in their file, px.
    rows
        Row of each cell (N,); None where each cell has a dataset of its own.
    reasons
        Why each cell has no image (N,), if the file says so.
    warnings
        What a reader of the results should know.
    """

    side_px: int
    rows: Integers | None = None
    reasons: NDArray[np.object_] | None = None
    warnings: list[str] = field(default_factory=list)


def link_patches(source: Path, target: Path, ids: Sequence[str], key: str, config: ImageConfig, mpp: float) -> list[str]:
    """Write a patch file whose row i is the patch of cell `ids[i]` in `source`, which may have either encoding.

    Of wider patches, the smallest central square that covers the field of view of the run is used. Local patches also get the reason why
    a cell has no image: that of the source, or else that the patch is of one color.

    Parameters
    ----------
    source, target
        Patch file of the dataset, and the file to write.
    ids
        Cells (N,).
    key
        `local_um` or `context_um`.
    config
        Sides of the windows and fill value.
    mpp
        Pixel size of the patches, µm.

    Returns
    -------
    list of str
        Warnings about patches that are not used.

    Raises
    ------
    UserError
        If the source is broken, lacks a cell, holds other shapes or narrower patches, or points into other files than its own image.
    """
    begin, found_at, end = PARTS[key]
    try:
        find = _find_named if has_named_patches(source) else _find_merged
        found = find(source, ids, (begin, found_at))
    # Around the reading too, because a file that is damaged in the middle can be opened.
    except READ_ERRORS as error:
        raise UserError(source, "file", f"not a readable patch file ({first_line(error)})", "Copy the file again.") from error
    side_px = _fit(source, found.side_px, key, config, mpp)
    with whole_file(target) as partial:
        with h5py.File(partial, "w", libver="v110") as linked:
            if found.rows is not None:
                linked[SOURCE_ROW] = found.rows
            write_keys(linked, ids)
            linked["padded"] = np.zeros(len(ids), dtype=bool)
            # Resolved, because a run must find the file wherever the new one lies.
            places = {SOURCE: str(source.resolve()), "side_px": side_px}
            linked.attrs.update(places | {"mpp": mpp, "field_um": getattr(config, key), "fill": config.fill})
        if key == "local_um":
            reasons = _reasons(partial, (found_at, end)) if found.reasons is None else found.reasons
            with h5py.File(partial, "a", libver="v110") as linked:
                write_reasons(linked, reasons)
    return found.warnings


def _find_named(source: Path, ids: Sequence[str], part: tuple[float, float]) -> _Found:
    """Find the patches of a file with one dataset per cell."""
    sides: dict[int, str] = {}
    with NamedPatches(source) as patches:
        names = patches.names()
        _require_all(source, "datasets", names, ids)
        for cell in track(ids, len(ids), "patches found", part=part):
            dataset = patches.open(cell)
            sides.setdefault(check_patch(source, cell, dataset.dtype, dataset.shape), cell)
            if len(sides) > 1:
                (one, first), (other, _) = sides.items()
                problem = f"is {other} px wide, and {first} is {one}"
                raise UserError(source, cell, problem, "Cut all patches again with one side.")
    return _Found(next(iter(sides)), warnings=list(_unused(source, len(names), len(ids), 0)))


def _find_merged(source: Path, ids: Sequence[str], part: tuple[float, float]) -> _Found:
    """Find the rows of the patches of a file with `images`, or corners in an image, and `keys`."""
    with open_window_file(source) as file:
        if SOURCE in file.attrs:
            problem = f"its patches lie in {file.attrs[SOURCE]}"
            raise UserError(source, SOURCE, problem, "Name that file, or write copies: `nuclass export-trio`.")
        if "keys" not in file:
            raise UserError(source, "keys", "the dataset is missing", FORMAT_REMEDY)
        keys, side_px = read_keys(source, file["keys"]), side_of(source, file)
        patches = len(file[ORIGIN] if ORIGIN in file else file["images"])
        if patches != len(keys):
            raise UserError(source, "images", f"holds {patches} patches, and keys names {len(keys)} cells", FORMAT_REMEDY)
        _require_all(source, "keys", keys, ids)
        rows = pd.Series(np.arange(len(keys)), index=keys)[keys != ""].loc[list(ids)].to_numpy(np.int64)
        reasons = read_texts(file["reason"])[rows] if "reason" in file else None
    return _Found(side_px, rows, reasons, list(_unused(source, len(keys), len(ids), int((keys == "").sum()))))


def _require_all(source: Path, where: str, keys: Sequence[str] | NDArray[np.object_], ids: Sequence[str]) -> None:
    known = set(keys)
    if absent := [cell for cell in ids if cell not in known]:
        problem = f"no patch for {len(absent)} cells, such as {absent[0]}"
        remedy = "Add them, or remove the cells from annotations.json."
        if "" in known:
            problem += f"; {sum(key == '' for key in keys)} rows have no id, because their patches could not be cut"
        elif absent[0].lstrip("0") in known:
            remedy = "Write the ids of the patches as text: they have lost their leading zeros."
        raise UserError(source, where, problem, remedy)


def _unused(source: Path, patches: int, cells: int, empty: int) -> Sequence[str]:
    """Return warnings about patches that no cell needs."""
    counts = {
        "have no id, because they could not be cut, and are left out": empty,
        "are of cells without annotation, and are left out": patches - empty - cells,
    }
    return [f"{count} of {patches} patches of {source.name} {what}" for what, count in counts.items() if count]


def _fit(source: Path, side_px: int, key: str, config: ImageConfig, mpp: float) -> int:
    """Return the side of the smallest central square of a patch that covers the field of view, px.

    Raises
    ------
    UserError
        If the patch is narrower, or the name of the file says another side.
    """
    if (named := re.fullmatch(r"patches_(\d+)x\1", source.stem)) and int(named[1]) != side_px:
        problem = f"its patches are {side_px} px wide, and its name says {named[1]}"
        raise UserError(source, "images", problem, f"Rename it to {patch_file(side_px)}, or cut the patches again.")
    field_um: float = getattr(config, key)
    wanted_px = round(field_um / mpp)
    if side_px < wanted_px:
        raise too_narrow(source, side_px, key, config, mpp)
    # One more if needed, because a square of another parity cannot lie in the middle.
    used_px = wanted_px + (side_px - wanted_px) % 2
    if used_px < side_px:
        logger.info("%s: the central %d of %d px are used, which cover %g µm", source, used_px, side_px, field_um)
    return used_px


def _reasons(linked: Path, part: tuple[float, float]) -> NDArray[np.object_]:
    """Return why each cell of a patch file has no image, from its pixels, (N,)."""
    windows = WindowReader(linked)
    reasons = np.full(windows.cells, "", dtype=object)
    for row in track(range(windows.cells), windows.cells, "patches", part=part):
        if is_blank(windows.read(np.array([row]))[0]):
            reasons[row] = NO_TISSUE
    return reasons
