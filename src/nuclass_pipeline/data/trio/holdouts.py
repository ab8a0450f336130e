"""The hold-outs file of the public reference, as rows of the slide sheet."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nuclass_pipeline.config.errors import describe_problem
from nuclass_pipeline.config.loading.trios import ANNOTATIONS, annotations_below
from nuclass_pipeline.config.slides import Slide, read_slides
from nuclass_pipeline.errors import UserError, similar
from nuclass_pipeline.io import quote_row, read_json, read_text, whole_file
from nuclass_pipeline.vocabulary import ORGANS

MODE = "xenium_exact"
"""The one mode of the reference that compares classes as they are."""
_FIELDS = ("root", "mode", "tissue")
_COLUMNS = ("slide", "kind", "organ", "bundle", "note")


def read_holdouts(path: Path) -> dict[str, Slide]:
    """Read a hold-outs file: an object {name: {root, mode, tissue}}, or a list of objects that have a name too.

    Returns
    -------
    dict
        Name in the file → slide of kind `trio`.

    Raises
    ------
    UserError
        If a field is missing, a mode or tissue is unknown, a root holds no annotations, or two names are one slide.
    """
    slides: dict[str, Slide] = {}
    for name, record in _records(path, read_json(path)):
        slide = _slide(path, name, record)
        if twice := next((other for other, known in slides.items() if known.slide == slide.slide), None):
            problem = f"{twice!r} and {name!r} are both slide {slide.slide!r}"
            raise UserError(path, name, problem, "Give them names that differ in letters or digits.")
        slides[name] = slide
    if not slides:
        raise UserError(path, "file", "it names no hold-out", 'Write {"<name>": {"root": "…", "mode": "xenium_exact", "tissue": "…"}}.')
    return slides


def _records(path: Path, content: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    remedy = 'Write {"<name>": {"root": "…", "mode": "xenium_exact", "tissue": "…"}}, or a list of objects that have a name too.'
    if isinstance(content, dict):
        found = list(content.items())
    elif isinstance(content, list):
        found = [(record.get("name") if isinstance(record, dict) else None, record) for record in content]
    else:
        raise UserError(path, "file", "is neither an object nor a list", remedy)
    for number, (name, record) in enumerate(found, 1):
        if not isinstance(record, dict):
            raise UserError(path, f"entry {number}", "is not an object", remedy)
        if not isinstance(name, str) or not name:
            raise UserError(path, f"entry {number}, name", "is missing", "Add it.")
        yield name, record


def _slide(path: Path, name: str, record: dict[str, Any]) -> Slide:
    for field in _FIELDS:
        if not isinstance(record.get(field), str) or not record[field].strip():
            raise UserError(path, f"{name}, {field}", "is missing or is not text", "Fill it in.")
    root, mode, tissue = (record[field].strip() for field in _FIELDS)
    if mode != MODE:
        raise UserError(path, f"{name}, mode", f"is {mode!r}", f"Only {MODE} is read: remove the entry, or correct it.")
    if tissue.lower() not in ORGANS:
        raise UserError(path, f"{name}, tissue", f"{tissue!r} is unknown{similar(tissue, ORGANS)}", f"Use one of {', '.join(ORGANS)}.")
    # Absolute, because paths of the sheet start from its folder or from the project, and those of the reference from where it runs.
    folder = str(Path(root).expanduser().absolute())
    if not Path(folder, ANNOTATIONS).is_file():
        below = annotations_below(folder)
        problem, remedy = (below[0], "Name that folder.") if below else (f"{folder} holds no {ANNOTATIONS}", "Correct the path.")
        raise UserError(path, f"{name}, root", problem, remedy)
    values = {"kind": "trio", "organ": tissue.lower(), "bundle": folder, "note": f"{name} of {path.name}"}
    try:
        return Slide.model_validate({"slide": re.sub("[^a-z0-9]+", "-", name.lower()).strip("-"), **values})
    except ValidationError as error:
        problem, remedy = describe_problem(error.errors()[0], "Rename it.")
        raise UserError(path, f"{name}, {error.errors()[0]['loc'][0]}", problem, remedy) from error


def add_slides(sheet: Path, slides: list[Slide]) -> None:
    """Write slides to a new sheet, or add them at the end of a sheet that is there.

    Raises
    ------
    UserError
        If the sheet has one of the slides, is not separated by tabs, or lacks a column.
    """
    text = "\t".join(_COLUMNS) + "\n"
    if sheet.exists():
        known = read_slides(sheet)
        if twice := [slide.slide for slide in slides if slide.slide in known]:
            problem = f"{twice[0]!r} has a row already"
            raise UserError(sheet, "slide", problem, "Remove that row, rename the hold-out, or name another file by --out.")
        text = read_text(sheet).rstrip("\n") + "\n"
    columns = text.partition("\n")[0].split("\t")
    if lacking := [name for name in _COLUMNS[:4] if name not in columns]:
        raise UserError(sheet, lacking[0], "the column is missing, or tabs are not what separates columns", "Name a new file by --out.")
    rows = io.StringIO()
    writer = csv.writer(rows, delimiter="\t", lineterminator="\n")
    writer.writerows(quote_row(getattr(slide, name, "") for name in columns) for slide in slides)
    with whole_file(sheet) as partial:
        partial.write_text(text + rows.getvalue(), encoding="utf-8")
