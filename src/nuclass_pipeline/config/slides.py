"""The slide sheet: which slides exist and where their files are. The run file assigns their roles."""

import csv
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from nuclass_pipeline.config.base import Section
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.layout import CONTEXT_PX, LOCAL_PX, UNPACKED_MANIFEST
from nuclass_pipeline.vocabulary import ORGANS

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")


class Slide(Section):
    """One row of the sheet.

    `bundle` is the Xenium output folder or an archive of it, or the folder of a trio (`annotations.json` and two patch files).
    Columns that have a default may be left out of the sheet.
    """

    slide: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="id: lower-case letters, digits and hyphens")
    kind: Literal["xenium", "image", "trio", "synthetic"] = Field(
        description="xenium: a bundle with its H&E; image: an H&E alone; trio: annotations and patches; synthetic: a demo slide"
    )
    organ: Literal[ORGANS] = Field(description="organ")  # type: ignore[valid-type]
    release: str = Field("", description="release of the software that wrote a public bundle")
    bundle: str = Field("", description="folder of the bundle, or an archive of it; or folder of the trio")
    image: str = Field("", description="H&E image")
    mpp: float | None = Field(None, gt=0, description="kind image: pixel size, µm, if the file states none or a wrong one")
    alignment: str = Field("", description="imagealignment.csv; empty for an H&E already in Xenium pixels")
    bundle_url: str = Field("", description="where the zipped bundle is downloaded from; empty for files of your own")
    image_url: str = Field("", description="the same for the H&E image")
    alignment_url: str = Field("", description="the same for the alignment; empty for an H&E already in Xenium pixels")
    label_source: str = Field("", description="where the labels of a public slide come from")
    note: str = Field("", description="free text")

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> "Slide":
        needed = {"trio": ("bundle",), "image": ("image",)}.get(self.kind, ("bundle", "image"))
        if empty := [name for name in needed if not getattr(self, name)]:
            raise ValueError(f"{empty[0]} is empty; a slide of kind {self.kind} needs it")
        unfit = ("bundle", "alignment", "bundle_url", "image_url", "alignment_url") if self.kind == "image" else ("mpp",)
        if given := [name for name in unfit if getattr(self, name)]:
            raise ValueError(f"{given[0]} does not apply to a slide of kind {self.kind}; leave it empty")
        return self

    @property
    def archived(self) -> bool:
        """Whether the bundle is an archive that has to be unpacked first."""
        return self.kind == "xenium" and self.bundle.endswith(ARCHIVES)

    @property
    def manifest(self) -> str:
        """Path of the bundle's `experiment.xenium`."""
        return UNPACKED_MANIFEST.format(slide=self.slide) if self.archived else f"{self.bundle}/experiment.xenium"

    @property
    def urls(self) -> dict[str, str]:
        """Addresses of the bundle, the H&E and the alignment."""
        return {"bundle_url": self.bundle_url, "image_url": self.image_url, "alignment_url": self.alignment_url}

    @property
    def trio_files(self) -> dict[str, str]:
        """Paths of the annotations and the two patch files of a slide of kind `trio`."""
        return {
            "annotations": f"{self.bundle}/annotations.json",
            "local": f"{self.bundle}/patches_{LOCAL_PX}x{LOCAL_PX}.h5",
            "context": f"{self.bundle}/patches_{CONTEXT_PX}x{CONTEXT_PX}.h5",
        }

    @property
    def first_file(self) -> str:
        """Path of what must be there before anything is run, beside image and alignment; empty for an H&E alone."""
        if self.kind == "image" or self.archived:
            return self.bundle
        return self.trio_files["annotations"] if self.kind == "trio" else self.manifest


def read_slides(path: Path) -> dict[str, Slide]:
    """Read the tab-separated sheet; keys are slide ids.

    Raises
    ------
    UserError
        If the sheet is missing, is not UTF-8 text, lacks a column, repeats a slide or holds a value that is not allowed.
    """
    if not path.is_file():
        raise UserError(path, "file", "it does not exist", "Name the slide sheet in the run file under `slides`.")
    try:
        # With or without a byte-order mark, because spreadsheets write one.
        with path.open(newline="", encoding="utf-8-sig") as stream:
            return _read_rows(path, csv.DictReader(stream, delimiter="\t"))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(path, "file", f"not a table in UTF-8 ({error})", "Save it as tab-separated text in UTF-8.") from error


def _read_rows(path: Path, reader: "csv.DictReader[str]") -> dict[str, Slide]:
    _check_header(path, list(reader.fieldnames or []))
    slides: dict[str, Slide] = {}
    for row in reader:
        # Skipped, because spreadsheets end a sheet with lines of only tabs.
        if not any("".join(value or ()).strip() for value in row.values()):
            continue
        slide = _parse(path, reader.line_num, row)
        if slide.slide in slides:
            raise UserError(path, "slide", f"{slide.slide!r} has two rows", "Remove one of them.")
        slides[slide.slide] = slide
    return slides


def _check_header(path: Path, found: list[str]) -> None:
    fields = Slide.model_fields
    if nameless := [number for number, name in enumerate(found, start=1) if not name.strip()]:
        last = nameless[-1] == len(found)
        remedy = "Remove the tab at its end." if last else "Name the column, or remove it from every line."
        raise UserError(path, "header", f"column {nameless[-1]} has no name", remedy)
    missing = [name for name, field in fields.items() if field.is_required() and name not in found]
    wrong = missing + [name for name in found if name not in fields or found.count(name) > 1]
    if wrong:
        allowed = f"Allowed are {', '.join(fields)}, separated by tabs."
        raise UserError(path, wrong[0], f"the columns are {', '.join(found)}", allowed)


def _parse(path: Path, line: int, row: dict[str, str]) -> Slide:
    if extra := row.pop(None, None):  # type: ignore[call-overload]
        problem = f"has {len(row) + len(extra)} values for {len(row)} columns"
        raise UserError(path, f"line {line}, row", problem, "Remove the extra tabs.")
    try:
        return Slide.model_validate({key: text for key, value in row.items() if (text := (value or "").strip())})
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else "row"
        raise UserError(
            path, f"line {line}, {field}", f"{row.get(field, '')!r}: {first['msg']}", "See docs/data.md for the columns."
        ) from error
