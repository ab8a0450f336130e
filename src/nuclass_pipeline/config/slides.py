"""The slide sheet: what exists and where; the run file says what is used for what."""

import csv
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from nuclass_pipeline.config.base import Section
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.vocabulary import ORGANS

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")


class Slide(Section):
    """One row of the sheet.

    `bundle` is the Xenium output folder or an archive of it, or the folder of a trio (`annotations.json` and two patch files).
    """

    slide: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="id: small letters, digits and hyphens")
    kind: Literal["xenium", "synthetic", "trio"] = Field(
        description="xenium: a bundle with its H&E; trio: annotations and patches; synthetic: a demo slide"
    )
    organ: Literal[ORGANS] = Field(description="organ")  # type: ignore[valid-type]
    bundle: str = Field(min_length=1, description="folder of the bundle, or an archive of it; or folder of the trio")
    image: str = Field("", description="H&E image")
    alignment: str = Field("", description="imagealignment.csv; empty for an H&E already in Xenium pixels")
    bundle_url: str = Field("", description="where the zipped bundle is downloaded from; empty for files of your own")
    image_url: str = Field("", description="the same for the H&E image")
    alignment_url: str = Field("", description="the same for the alignment; empty for an H&E already in Xenium pixels")
    note: str = Field("", description="free text")

    @model_validator(mode="after")
    def _has_an_image(self) -> "Slide":
        if self.kind != "trio" and not self.image:
            raise ValueError("image is empty; a slide of this kind needs its H&E")
        return self

    @property
    def archived(self) -> bool:
        """Whether the bundle is an archive that has to be unpacked first."""
        return self.kind == "xenium" and self.bundle.endswith(ARCHIVES)

    @property
    def manifest(self) -> str:
        """Path of the bundle's `experiment.xenium`."""
        return f"resources/unpacked/{self.slide}/experiment.xenium" if self.archived else f"{self.bundle}/experiment.xenium"


def read_slides(path: Path) -> dict[str, Slide]:
    """Read the tab-separated sheet; keys are slide ids.

    Raises
    ------
    UserError
        If the sheet is missing, lacks a column, repeats a slide or holds a value that is not allowed.
    """
    if not path.is_file():
        raise UserError(path, "file", "it does not exist", "Name the slide sheet in the run file under `slides`.")
    slides: dict[str, Slide] = {}
    with path.open(newline="") as stream:
        reader = csv.DictReader(stream, delimiter="\t")
        _check_header(path, reader.fieldnames or [])
        for row in reader:
            slide = _parse(path, reader.line_num, row)
            if slide.slide in slides:
                raise UserError(path, "slide", f"{slide.slide!r} stands in two rows", "Keep one.")
            slides[slide.slide] = slide
    return slides


def _check_header(path: Path, names: object) -> None:
    found = list(names)  # type: ignore[call-overload]
    if wrong := [name for name in Slide.model_fields if name not in found] + [name for name in found if name not in Slide.model_fields]:
        raise UserError(
            path,
            wrong[0],
            f"the columns are {', '.join(map(str, found))}",
            f"Use exactly {', '.join(Slide.model_fields)}, separated by tabs.",
        )


def _parse(path: Path, line: int, row: dict[str, str]) -> Slide:
    try:
        return Slide.model_validate({key: (value or "").strip() for key, value in row.items()})
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else "row"
        raise UserError(
            path, f"line {line}, {field}", f"{row.get(field, '')!r}: {first['msg']}", "See docs/data.md for the columns."
        ) from error
