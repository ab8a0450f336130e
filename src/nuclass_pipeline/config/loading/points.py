"""The two tables of a slide of kind `images`: its images with their pixel sizes and cases, and a point with a class for each cell."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nuclass_pipeline.errors import UserError, similar
from nuclass_pipeline.io import read_rows

if TYPE_CHECKING:
    from nuclass_pipeline.config.run import Run

IMAGES, POINTS = "images.csv", "points.csv"
MIN_MPP, MAX_MPP = 0.05, 4.0
"""Pixel sizes of images in which a nucleus can be seen, µm."""
MAX_POINTS_MB = 512
_CONTEXT = ("context_file", "context_mpp", "context_x_px", "context_y_px")


@dataclass(frozen=True)
class PointImage:
    """A row of `images.csv`.

    Attributes
    ----------
    name, case
        The image, and the patient or case it comes from, which no two subsets share.
    file, mpp
        The picture and its pixel size, µm.
    context_file, context_mpp
        A wider picture around it and its pixel size; empty and 0 without one.
    context_xy_px
        Where the left upper corner of the image lies in that picture, px of it.
    """

    name: str
    case: str
    file: Path
    mpp: float
    context_file: Path | None = None
    context_mpp: float = 0.0
    context_xy_px: tuple[float, float] = (0.0, 0.0)

    @property
    def files(self) -> list[str]:
        """Paths of its pictures."""
        return [str(path) for path in (self.file, self.context_file) if path]


@dataclass(frozen=True)
class Point:
    """A row of `points.csv`: cell, image, place in px of the image, and raw class."""

    cell_id: str
    image: str
    x_px: float
    y_px: float
    raw: str


def read_images(folder: Path | str) -> dict[str, PointImage]:
    """Read `images.csv` of a folder; keys are the names of the images.

    Raises
    ------
    UserError
        If the table is missing or empty, a name repeats, or a size, place or file is not allowed.
    """
    path = Path(folder) / IMAGES
    images: dict[str, PointImage] = {}
    for line, row in read_rows(path, required=("image", "file", "mpp", "case"), missing="Make it with `nuclass import-points`.").rows:
        image = _image(path, line, row)
        if image.name in images:
            raise UserError(path, f"line {line}, image", f"{image.name!r} has two rows", "Remove one of them.")
        images[image.name] = image
    if not images:
        raise UserError(path, "image", "the table has no rows", "Add a row for each image.")
    return images


def _image(path: Path, line: int, row: dict[str, str]) -> PointImage:
    for column in ("image", "file", "case"):
        if not row[column]:
            raise UserError(path, f"line {line}, {column}", "it is empty", "Fill it in.")
    plain = PointImage(row["image"], row["case"], _file(path, line, row, "file"), _mpp(path, line, row, "mpp"))
    given = [column for column in _CONTEXT if row.get(column)]
    if not given:
        return plain
    if absent := [column for column in _CONTEXT if column not in given]:
        problem = f"it is empty, and {given[0]} is given"
        raise UserError(path, f"line {line}, {absent[0]}", problem, f"Fill in {', '.join(_CONTEXT)}, or leave all empty.")
    x_px, y_px = (_number(path, line, row, column) for column in _CONTEXT[2:])
    wide = _file(path, line, row, "context_file"), _mpp(path, line, row, "context_mpp")
    return PointImage(plain.name, plain.case, plain.file, plain.mpp, *wide, (x_px, y_px))


def _file(path: Path, line: int, row: dict[str, str], column: str) -> Path:
    file = path.parent / row[column]
    if not file.is_file():
        beside = [found.name for found in file.parent.iterdir()] if file.parent.is_dir() else []
        problem = f"{row[column]} is not a file{similar(file.name, beside)}"
        raise UserError(path, f"line {line}, {column}", problem, f"Correct the path, which starts from the folder of {path.name}.")
    return file


def _mpp(path: Path, line: int, row: dict[str, str], column: str) -> float:
    mpp = _number(path, line, row, column)
    if found := mpp_problem(mpp):
        problem, remedy = found
        raise UserError(path, f"line {line}, {column}", problem, remedy)
    return mpp


def mpp_problem(mpp: float) -> tuple[str, str] | None:
    """Return problem and remedy of a pixel size in µm that no image with visible nuclei has."""
    if MIN_MPP <= mpp <= MAX_MPP:
        return None
    return f"{mpp:g} µm is not the pixel size of a microscope", f"Enter µm per px, from {MIN_MPP:g} to {MAX_MPP:g}."


def _number(path: Path, line: int, row: dict[str, str], column: str) -> float:
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(path, f"line {line}, {column}", f"{row[column]!r} is not a number", "Enter a number.")
    return value


def read_points(folder: Path | str, images: dict[str, PointImage]) -> list[Point]:
    """Read `points.csv` of a folder, a point for each cell; points outside their image are returned too.

    Raises
    ------
    UserError
        If the table is missing or empty, an image is unknown, a place is not a number, a class is empty, or a cell id repeats.
    """
    path = Path(folder) / POINTS
    points = list(_points(path, images))
    if not points:
        raise UserError(path, "image", "the table has no rows", "Add a row for each cell.")
    if repeated := [cell for cell, count in Counter(point.cell_id for point in points).items() if count > 1]:
        raise UserError(path, "cell_id", f"{repeated[0]!r} has two rows", "Give each cell its own id, or remove the column.")
    return points


def _points(path: Path, images: dict[str, PointImage]) -> Iterator[Point]:
    numbers: Counter[str] = Counter()
    required = ("image", "x_px", "y_px", "class")
    for line, row in read_rows(path, required=required, missing="Make it with `nuclass import-points`.", max_mb=MAX_POINTS_MB).rows:
        name = row["image"]
        if name not in images:
            problem = f"{name!r} is not in {IMAGES}{similar(name, images)}"
            raise UserError(path, f"line {line}, image", problem, f"Correct the name, or add the image to {IMAGES}.")
        if not row["class"]:
            raise UserError(path, f"line {line}, class", "it is empty", "Fill it in, or remove the row.")
        numbers[name] += 1
        cell = row.get("cell_id") or f"{name}-{numbers[name]}"
        yield Point(cell, name, _number(path, line, row, "x_px"), _number(path, line, row, "y_px"), row["class"])


def check_point_images(run: "Run") -> None:
    """Check the tables and files of slides of kind `images`, and that a case that is trained on is in one slide only.

    Two slides share no case even if both are trained on, because each is split into subsets by itself.
    """
    roles: dict[str, tuple[str, str]] = {}
    for name in run.slides_of("images"):
        folder = run.slides[name].bundle
        images = read_images(folder)
        read_points(folder, images)
        for image in images.values():
            role, other = roles.setdefault(image.case, (run.role(name), name))
            if other != name and "train" in {role, run.role(name)} and {role, run.role(name)} <= {"train", "heldout"}:
                problem = f"case {image.case!r} is also in slide {other} of study.{role}, and {name} is in study.{run.role(name)}"
                raise UserError(Path(folder) / IMAGES, "case", problem, "Keep all images of a case in one slide.")


def picture_files(folder: Path | str) -> list[str]:
    """Return the paths of all pictures of a slide of kind `images`."""
    return [path for image in read_images(folder).values() for path in image.files]
