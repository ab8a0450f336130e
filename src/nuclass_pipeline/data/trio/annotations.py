"""`annotations.json`: the class, place, tissue and pixel size of each cell of a patch dataset."""

import logging
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.config.loading.points import mpp_problem
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_json
from nuclass_pipeline.vocabulary import OTHER_ORGAN, organs_named

logger = logging.getLogger(__name__)

CLASS_FIELDS = ("class_id", "label", "cell_type", "type", "annotation")
"""Fields that may hold the class; the first that occurs is read, as the public reference does."""
MPP_FIELD = "micron_per_pixel"
MAX_CENTROID_PX = 1e9
"""Far beyond the largest slide, so that only numbers of another meaning are refused."""
MAX_MPP_ERROR = 1e-6
"""Relative difference of two equal pixel sizes, above the rounding of 32 bits."""


@dataclass(frozen=True)
class Annotations:
    """The annotated cells.

    Attributes
    ----------
    ids
        Cell ids (N,), as they are written.
    raw
        Their raw labels (N,).
    xy_px
        Their centroids (N, 2), px.
    mpp
        Pixel size that the file states, µm; None if it states none.
    warnings
        What a reader of the results should know.
    """

    ids: list[str]
    raw: list[str]
    xy_px: Floats
    mpp: float | None
    warnings: list[str]


def read_annotations(path: Path, organ: str) -> Annotations:
    """Read the annotations of a slide of `organ`.

    Raises
    ------
    UserError
        If the file is not an object of cells, a field is missing or wrong, the cells have two pixel sizes, or a tissue is of another organ.
    """
    records = read_json(path)
    if not isinstance(records, dict) or not records:
        remedy = 'Write one entry per cell: {"<cell id>": {"class_id": "…", "centroid_x": …, "centroid_y": …}}.'
        raise UserError(path, "file", "is not a JSON object of cells", remedy)
    if "" in records:
        raise UserError(path, "file", "a cell has an empty id", "Name the cell as its patches do, or remove it.")
    field = _class_field(path, records)
    warnings = [] if field == CLASS_FIELDS[0] else [f"no record has {CLASS_FIELDS[0]}, so the classes are those of {field}"]
    return Annotations(
        ids=list(records),
        raw=[str(value) for value in _values(path, records, field)],
        xy_px=np.stack([_centroids(path, records, f"centroid_{axis}") for axis in ("x", "y")], axis=1),
        mpp=_one_mpp(path, records),
        warnings=[*warnings, *_check_tissues(path, records, organ)],
    )


def _class_field(path: Path, records: dict[str, Any]) -> str:
    if wrong := next((cell for cell, record in records.items() if not isinstance(record, dict)), None):
        raise UserError(path, wrong, "is not an object of fields", "Write one entry per cell, or remove the cell.")
    return next((field for field in CLASS_FIELDS if any(field in record for record in records.values())), CLASS_FIELDS[0])


def _values(path: Path, records: dict[str, Any], field: str) -> list[Any]:
    for cell, record in records.items():
        if field not in record:
            raise UserError(path, field, f"is missing for cell {cell}", "Add it, or remove the cell.")
    return [record[field] for record in records.values()]


def _centroids(path: Path, records: dict[str, Any], field: str) -> Floats:
    values = [to_number(value) for value in _values(path, records, field)]
    if wrong := next((cell for cell, value in zip(records, values, strict=True) if not abs(value) < MAX_CENTROID_PX), None):
        problem = f"{records[wrong][field]!r} of cell {wrong} is not a number of pixels"
        raise UserError(path, field, problem, "Enter the centroid in px, or remove the cell.")
    return np.array(values, dtype=np.float64)


def to_number(value: Any) -> float:
    """Return a number, or a text that holds one; NaN for anything else."""
    try:
        # An array of one number too, because some programs write attributes so.
        number = value.item() if isinstance(value, np.ndarray) else value
        return math.nan if isinstance(number, bool) else float(number)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def read_mpp(path: Path, field: str, value: Any) -> float:
    """Return a pixel size as a file states it, µm.

    Raises
    ------
    UserError
        If it is not a number, or not one of a microscope.
    """
    number = to_number(value)
    if found := mpp_problem(number):
        problem = found[0] if math.isfinite(number) else f"{value!r} is not a pixel size"
        raise UserError(path, field, problem, found[1])
    return number


def _one_mpp(path: Path, records: dict[str, Any]) -> float | None:
    """Return the pixel size of all cells, µm; None where no cell has one."""
    first: dict[float, str] = {}
    for cell, record in records.items():
        if record.get(MPP_FIELD) is not None:
            first.setdefault(read_mpp(path, MPP_FIELD, record[MPP_FIELD]), cell)
    if len(first) > 1:
        (one, cell), (other, another) = list(first.items())[:2]
        remedy = "Correct it, or make a patch dataset for each pixel size."
        raise UserError(path, MPP_FIELD, f"is {one:g} for cell {cell}, and {other:g} for cell {another}", remedy)
    return next(iter(first), None)


def agree_mpp(stated: Iterable[tuple[Path, str, float | None]], assumed: float) -> tuple[float, list[str]]:
    """Return the one pixel size of a patch dataset, µm, with warnings.

    Parameters
    ----------
    stated
        File, field, and the pixel size that the file states, µm, or None.
    assumed
        Pixel size of the run, µm, for a dataset that states none.

    Raises
    ------
    UserError
        If two files disagree.
    """
    known = [(path, field, mpp) for path, field, mpp in stated if mpp is not None]
    if not known:
        return assumed, [f"no pixel size is stated, so that of the run, {assumed:g} µm, is assumed"]
    first, _, mpp = known[0]
    for path, field, other in known[1:]:
        if abs(other - mpp) > MAX_MPP_ERROR * mpp:
            raise UserError(path, field, f"is {other:.10g} µm, and {mpp:.10g} µm in {first.name}", "Correct the one that is wrong.")
    if abs(mpp - assumed) > MAX_MPP_ERROR * assumed:
        detail = "less" if mpp > assumed else "more"
        return mpp, [f"the patches have a pixel size of {mpp:.10g} µm and show {detail} detail than {assumed:g} µm, that of the run"]
    return mpp, []


def _check_tissues(path: Path, records: dict[str, Any], organ: str) -> list[str]:
    """Return warnings about tissues whose organ is not known, or is known better than the sheet says."""
    tissues = Counter(str(record["tissue_type"]).strip().lower() for record in records.values() if record.get("tissue_type"))
    unknown = {tissue: count for tissue, count in tissues.items() if not organs_named(tissue)}
    organs = {name for tissue in tissues for name in organs_named(tissue)}
    if organ == OTHER_ORGAN:
        only = organs if len(organs) == 1 and not unknown else ()
        return [f"the tissue of all cells is of the {name}, and the organ of the slide sheet is {OTHER_ORGAN}" for name in only]
    for tissue, count in tissues.items():
        if tissue not in unknown and organ not in (named := sorted(organs_named(tissue))):
            problem = f"{tissue!r} of {count} cells is of the {named[0]}, and the slide sheet says {organ}"
            remedy = f"Set the organ of the slide to {named[0]} in the slide sheet, or correct the annotations."
            raise UserError(path, "tissue_type", problem, remedy)
    return [f"the tissue {tissue!r} of {count} cells names no known organ; {organ} is used" for tissue, count in unknown.items()]
