"""Cells that cannot be: values that contradict each other, the manifest, or what a Xenium slide can hold.

Limits are far outside what the tables of six releases hold, because a refusal of a sound slide costs more than a warning. What is only
unusual is a warning.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from nuclass_pipeline.arrays import Booleans, Floats
from nuclass_pipeline.data.xenium.cells import CENTROID, MAX_MISMATCH, CellTable
from nuclass_pipeline.errors import UserError

# Above the 22,450 µm of the longer side of the area that the instrument images.
MAX_POSITION_UM = 30_000.0
"""Largest coordinate of a centroid, µm."""
# The largest cell of the real tables has 1394 µm²; a cell of this area is 350 µm wide.
MAX_CELL_AREA_UM2 = 1e5
# Half of the cells of real slides have a neighbour within 7 to 13 µm; in millimetres, it is a thousandth of that.
MIN_SPACING_UM = 1.0
"""Median distance of a cell from the next, below which centroids are not in µm, or equal."""
# At most 4.6 on a regular grid, 1 for cells at random; centroids in pixels give 22 times as much.
MAX_SPREAD = 10.0
"""Largest ratio of 4 d² to the area of the region per cell, for a median distance d of neighbours."""
# 0.7 in whole tables; 3 in pixels, and in tables with every twentieth cell, so that it is only a warning.
MAX_RELATIVE_SPACING = 2.5
ISOLATED_UM = 1000.0
# Because the spacing of a few cells depends on how they lie.
MIN_SPACED_CELLS = 20
"""Cells from which their spacing is compared with areas."""
USUAL_MPP = 0.2125
"""Pixel size of every release, µm."""
MICROMETRES = "Convert them to µm from the upper left of the morphology image, or copy the bundle's own cell table again."
COPY_TABLE = "Copy the bundle's own cell table again, or correct the value."


@dataclass(frozen=True)
class _CellCheck:
    """Something that no cell may be: a column, the cells for which it is wrong, and the words for it."""

    field: str
    wrong: Callable[[pd.DataFrame], "pd.Series[bool]"]
    problem: str
    remedy: str = COPY_TABLE
    share: float = 0.0


def _above(name: str, limit: float) -> Callable[[pd.DataFrame], "pd.Series[bool]"]:
    return lambda frame: frame[name] > limit


_CELL_CHECKS = (
    *(_CellCheck(name, _above(name, MAX_POSITION_UM), f"is beyond {MAX_POSITION_UM:,.0f} µm", MICROMETRES) for name in CENTROID),
    *(
        _CellCheck(name, _above(name, MAX_CELL_AREA_UM2), f"is beyond {MAX_CELL_AREA_UM2:,.0f} µm²", COPY_TABLE)
        for name in ("cell_area", "nucleus_area")
    ),
    # 1 %, because writers round areas.
    _CellCheck("nucleus_area", lambda f: f["nucleus_area"] > 1.01 * f["cell_area"], "is more than cell_area", share=MAX_MISMATCH),
    _CellCheck(
        "nucleus_count", lambda f: (f["nucleus_count"] == 0) & (f["nucleus_area"] > 0), "contradicts nucleus_area", share=MAX_MISMATCH
    ),
)
_TABLE_CHECKS = (
    *(_CellCheck(name, lambda f, name=name: f[name] == f[name].iloc[0], "is the same in all cells", MICROMETRES) for name in CENTROID),  # type: ignore[misc]
    _CellCheck("cell_area", lambda f: f["cell_area"] == 0, "is 0 in all cells"),
)
"""What may be true of some cells, but not of all of three or more."""


def check_plausible(table: CellTable, manifest: Mapping[str, Any]) -> list[str]:
    """Return warnings on what is unusual about the cells of a bundle.

    Raises
    ------
    UserError
        At the first value that cannot be, or that contradicts another column or the manifest.
    """
    frame, warnings = table.frame, []
    for check in _CELL_CHECKS:
        if (wrong := _wrong(check, frame)).any():
            problem = _describe(check, frame, wrong)
            if wrong.mean() > check.share:
                raise UserError(table.path, check.field, problem, check.remedy)
            warnings.append(f"{check.field}: {problem}")
    for check in _TABLE_CHECKS:
        if len(frame) > 2 and (wrong := _wrong(check, frame)).all():
            raise UserError(table.path, check.field, _describe(check, frame, wrong), check.remedy)
    return [*warnings, *_check_spacing(table, manifest), *_check_manifest(table, manifest)]


def _wrong(check: _CellCheck, frame: pd.DataFrame) -> Booleans:
    try:
        return np.asarray(check.wrong(frame), dtype=bool)
    except KeyError:  # A column that the release does not write.
        return np.zeros(len(frame), dtype=bool)


def _describe(check: _CellCheck, frame: pd.DataFrame, wrong: Booleans) -> str:
    first = frame.iloc[int(np.argmax(wrong))]
    return f"{first[check.field]:g} for cell {first['cell_id']} {check.problem}; {int(wrong.sum())} of {len(frame)} cells"


def _check_spacing(table: CellTable, manifest: Mapping[str, Any]) -> Iterator[str]:
    frame = table.frame
    if len(frame) < 3:
        return
    distance_um = neighbor_distance_um(frame[list(CENTROID)].to_numpy(dtype=np.float64))
    spacing_um, field = float(np.median(distance_um)), ", ".join(CENTROID)
    if spacing_um < MIN_SPACING_UM:
        closest = frame["cell_id"].iloc[int(np.argmin(distance_um))]
        problem = f"half of the cells lie within {spacing_um:.3g} µm of another, such as cell {closest}"
        raise UserError(table.path, field, f"{problem}: they are equal, or in mm", MICROMETRES)
    if len(frame) < MIN_SPACED_CELLS:
        return
    region_um2 = _number(manifest, "region_area")
    if region_um2 and _is_whole(frame, manifest) and 4 * spacing_um**2 > MAX_SPREAD * region_um2 / len(frame):
        problem = f"cells lie {spacing_um:.0f} µm apart, too far for {len(frame)} in the region_area of the manifest, {region_um2:.0f} µm²"
        raise UserError(table.path, field, f"{problem}: they may be in pixels", MICROMETRES)
    diameter_um = 2 * np.sqrt(frame["cell_area"].median() / np.pi) if "cell_area" in frame else np.nan
    if spacing_um > MAX_RELATIVE_SPACING * diameter_um:
        yield f"{field}: neighbours lie {spacing_um:.0f} µm apart, {spacing_um / diameter_um:.1f} cell diameters: pixels, or a sample?"
    if (equal := distance_um == 0).any():
        yield f"{field}: {int(equal.sum())} cells lie at the place of another, such as {frame['cell_id'].iloc[int(np.argmax(equal))]}"
    if (isolated := distance_um > ISOLATED_UM).any():
        first = frame.iloc[int(np.argmax(distance_um))]
        place = f"cell {first['cell_id']} at ({first['x_centroid']:g}, {first['y_centroid']:g})"
        yield f"{field}: {place} lies {distance_um.max():.0f} µm from all others; {int(isolated.sum())} of {len(frame)} cells do"


def neighbor_distance_um(xy_um: Floats) -> Floats:
    """Compute the distance of each cell, (N, 2) in µm, from the nearest other, (N,)."""
    distance, _ = cKDTree(xy_um).query(xy_um, k=[2])
    return np.asarray(distance).ravel()


def _check_manifest(table: CellTable, manifest: Mapping[str, Any]) -> Iterator[str]:
    frame, path = table.frame, table.path.with_name("experiment.xenium")
    stated, size = _number(manifest, "num_cells"), float(manifest["pixel_size"])
    for name in ("num_cells", "region_area", "total_cell_area"):
        if manifest.get(name) is not None and _number(manifest, name) is None:
            yield f"{name} of experiment.xenium is {str(manifest[name])[:20]!r}, and not a number"
    if stated is not None and stated < len(frame):
        problem = f"is {stated:.0f}, but {table.path.name} has {len(frame)} cells"
        raise UserError(path, "num_cells", problem, "Use the files of one run, or correct the number.")
    if stated is not None and stated > len(frame):
        yield f"{table.path.name} has {len(frame)} of the {stated:.0f} cells that num_cells of experiment.xenium states"
    if abs(size / USUAL_MPP - 1) > MAX_MISMATCH:
        yield f"pixel_size is {size:g} µm in experiment.xenium; Xenium writes {USUAL_MPP}"
    if "cell_area" not in frame:
        return
    area_um2 = float(frame["cell_area"].sum())
    total_um2, region_um2 = (_number(manifest, name) for name in ("total_cell_area", "region_area"))
    remedy = "Use the files of one run, with areas in µm²."
    if region_um2 and area_um2 > region_um2:
        raise UserError(table.path, "cell_area", f"all cells have {area_um2:.0f} µm², more than region_area, {region_um2:.0f} µm²", remedy)
    if total_um2 and _is_whole(frame, manifest) and abs(area_um2 / total_um2 - 1) > MAX_MISMATCH:
        raise UserError(table.path, "cell_area", f"sums to {area_um2:.0f} µm²; total_cell_area is {total_um2:.0f} µm²", remedy)


def _is_whole(frame: pd.DataFrame, manifest: Mapping[str, Any]) -> bool:
    return _number(manifest, "num_cells") == len(frame)


def _number(manifest: Mapping[str, Any], name: str) -> float | None:
    """Return a number of the manifest; None where it has none, because releases differ and other programs write text there."""
    value = manifest.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < np.inf else None
