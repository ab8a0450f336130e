"""Comparison of the files of a bundle: number, places and areas of its cells."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import tifffile

from nuclass_pipeline.arrays import Booleans, Floats
from nuclass_pipeline.data.xenium.boundaries import box_outlines
from nuclass_pipeline.data.xenium.cells import CELL_READERS, CENTROID, MAX_MISMATCH, NUMBERS, CellTable, read_cell_file
from nuclass_pipeline.data.xenium.checks.boxes import Boxes
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import READ_ERRORS

REMOVE_OPTIONAL = "Use the files of one run, with lengths in µm, or remove this file from the bundle: it is optional."
# Of 0.72 to 0.62 in real bundles; in px² it is 22 times as much, in mm² a millionth.
AREA_SHARES = (0.05, 1.5)
"""Smallest and largest median share of a cell in the box around its outline."""
MORPHOLOGY = ("morphology_focus/*.ome.tif", "morphology_focus.ome.tif", "morphology.ome.tif", "morphology_mip.ome.tif")


@dataclass(frozen=True)
class _Reach:
    """How far the centroid of a cell may lie from the box around something of it.

    Attributes
    ----------
    what
        Its name in messages.
    limit_um
        Far above the largest distance in real bundles: 0 µm from outlines of cells, 6 from nuclei, 15 from transcripts.
    share
        Share of cells that may lie beyond it.
    """

    what: str
    limit_um: float
    share: float


_REACHES = {
    "cell": _Reach("outline", 20.0, 0.0),
    "nucleus": _Reach("nucleus", 100.0, MAX_MISMATCH),
    "transcripts": _Reach("transcripts", 100.0, MAX_MISMATCH),
}


def check_copies(table: CellTable) -> None:
    """Compare the cell table with other encodings of it in the bundle.

    Raises
    ------
    UserError
        If one of them is broken, has other cells, or another value in a cell.
    """
    for name in CELL_READERS:
        path = table.path.with_name(name)
        if path != table.path and path.is_file():
            _check_copy(table, path)


def _check_copy(table: CellTable, path: Path) -> None:
    remedy = f"Copy both from one run, or remove {path.name}: {table.path.name} is the one that is read."
    try:
        copied = read_cell_file(path)
    except UserError as error:
        raise UserError(path, error.field, error.problem, remedy) from error
    first, other = (cells.frame.set_index("cell_id") for cells in (table, copied))
    if len(alone := first.index.symmetric_difference(other.index)):
        problem = f"{len(other)} cells, and {table.path.name} has {len(first)}; cell {alone[0]} is in one of them alone"
        raise UserError(path, "cell_id", problem, remedy)
    other = other.loc[first.index]
    for name in [column for column in NUMBERS if column in first and column in other]:
        # Near and not equal, because a table of text rounds.
        differ = ~np.isclose(first[name].to_numpy(float), other[name].to_numpy(float), rtol=1e-4, atol=0.01, equal_nan=True)
        if differ.any():
            row = int(np.argmax(differ))
            values = f"{other[name].iloc[row]:g} for cell {first.index[row]}, and {first[name].iloc[row]:g} in {table.path.name}"
            raise UserError(path, name, f"{values}; {int(differ.sum())} of {len(first)} cells differ", remedy)


def check_outlines(table: CellTable, pixel_size_mpp: float) -> list[str]:
    """Compare places and areas with the outlines of the cells, or with those of nuclei where the bundle has no others; return warnings.

    Raises
    ------
    UserError
        If a file is broken, is of other cells, or its outlines lie elsewhere or have other areas.
    """
    kinds: tuple[Literal["cell", "nucleus"], ...] = ("cell", "nucleus")
    for kind in kinds:
        boxes = box_outlines(table.path.parent, kind, table.frame["cell_id"])
        if boxes is None:
            continue
        if not boxes.filled.any():
            raise UserError(boxes.path, "cell_id", f"no outline is of a cell of {table.path.name}", REMOVE_OPTIONAL)
        warnings = check_places(table, boxes, kind, pixel_size_mpp)
        if kind == "cell":
            _check_areas(table, boxes)
            if lacking := int((~boxes.filled).sum()):
                warnings.append(f"{lacking} of {len(table.frame)} cells have no outline in {boxes.path.name}")
        return warnings
    return []


def check_places(table: CellTable, boxes: Boxes, kind: Literal["cell", "nucleus", "transcripts"], pixel_size_mpp: float) -> list[str]:
    """Compare centroids with the boxes around something of each cell; return warnings.

    Raises
    ------
    UserError
        If too many lie too far away.
    """
    reach, xy_um = _REACHES[kind], table.frame[list(CENTROID)].to_numpy(dtype=np.float64)
    distance_um = boxes.distance_um(xy_um)
    far = distance_um > reach.limit_um
    if not far.any():
        return []
    row = int(np.argmax(far))
    place = f"({xy_um[row, 0]:g}, {xy_um[row, 1]:g}) of cell {table.frame['cell_id'].iloc[row]}"
    problem = f"{place} lies {distance_um[row]:.0f} µm from its {reach.what} in {boxes.path.name}"
    problem += f"; {int(far.sum())} of {int(boxes.filled.sum())} cells do"
    if far.sum() <= reach.share * boxes.filled.sum():
        return [problem]
    hint = _explain(xy_um, boxes, reach.limit_um, pixel_size_mpp)
    raise UserError(table.path, ", ".join(CENTROID), problem + hint, "Use the files of one run, with lengths in µm and x before y.")


def _explain(xy_um: Floats, boxes: Boxes, limit_um: float, pixel_size_mpp: float) -> str:
    """Return what makes the centroids fit, for the message; empty where nothing does."""
    changes = {
        "they fit with x and y exchanged": xy_um[:, ::-1],
        "they fit as pixels": xy_um * pixel_size_mpp,
        "they fit as mm": xy_um * 1000,
    }
    # By the median, because at the border of a slide a wrong place may lie near by chance.
    return next((f"; {name}" for name, xy in changes.items() if np.nanmedian(boxes.distance_um(xy)) < limit_um / 2), "")


def _check_areas(table: CellTable, boxes: Boxes) -> None:
    if "cell_area" not in table.frame:
        return
    shares = table.frame["cell_area"].to_numpy(dtype=np.float64) / np.where(boxes.area_um2 > 0, boxes.area_um2, np.nan)
    share = float(pd.Series(shares).median())
    if not np.isnan(share) and not AREA_SHARES[0] <= share <= AREA_SHARES[1]:
        problem = f"is {share:.3g} of the box around the outline in {boxes.path.name} (median of the cells)"
        raise UserError(table.path, "cell_area", problem, "Use the files of one run, with areas in µm² and lengths in µm.")


def check_morphology(table: CellTable, pixel_size_mpp: float) -> list[str]:
    """Compare centroids with the extent of the morphology image, where it has the pixel size of the manifest; return warnings.

    Raises
    ------
    UserError
        If too many cells lie beyond the image.
    """
    found = next(_morphology_um(table.path.parent, pixel_size_mpp), None)
    if found is None:
        return []
    path, width_um, height_um, is_stated = found
    beyond: Booleans = np.asarray((table.frame[list(CENTROID)].to_numpy(dtype=np.float64) > (width_um, height_um)).any(axis=1))
    if not beyond.any():
        return []
    first = table.frame.iloc[int(np.argmax(beyond))]
    place = f"({first['x_centroid']:g}, {first['y_centroid']:g}) of cell {first['cell_id']}"
    problem = f"{place} lies beyond {path.name}, {width_um:.0f} × {height_um:.0f} µm; {int(beyond.sum())} of {len(beyond)} cells do"
    if not is_stated:
        return [f"{problem}, if its pixels are those of the manifest; it states no size"]
    if beyond.mean() <= MAX_MISMATCH:
        return [problem]
    remedy = "Use the files of one run, or remove the image from the bundle: it is optional."
    raise UserError(table.path, ", ".join(CENTROID), problem, remedy)


def _morphology_um(bundle: Path, pixel_size_mpp: float) -> Iterator[tuple[Path, float, float, bool]]:
    for path in (path for pattern in MORPHOLOGY for path in sorted(bundle.glob(pattern)) if path.is_file()):
        try:
            # The header of the first page alone, because the image itself may be broken, and is not read.
            with tifffile.TiffFile(path) as file:
                page = file.pages.first
                height, width, text = page.imagelength, page.imagewidth, page.description
        except READ_ERRORS:
            continue
        # Not where the file states another pixel size, because samples of bundles hold reduced images under the same name.
        claim = re.search(r'PhysicalSizeX="([0-9.eE-]+)"', text[:100_000])
        if claim is None or abs(float(claim[1]) / pixel_size_mpp - 1) < MAX_MISMATCH:
            yield path, width * pixel_size_mpp, height * pixel_size_mpp, claim is not None
