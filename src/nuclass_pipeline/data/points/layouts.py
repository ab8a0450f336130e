"""Public data sets of images with points, each by a reader of its layout: what they hold, in the form of a slide of kind `images`."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from nuclass_pipeline.config.loading.points import MAX_POINTS_MB, Point, PointImage, mpp_problem
from nuclass_pipeline.data.points.point_set import PointSet
from nuclass_pipeline.errors import UserError, similar
from nuclass_pipeline.io import read_fields, read_json, read_rows, read_text, read_yaml
from nuclass_pipeline.vocabulary import UNRESOLVED

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
M2C_CLASSES = {"1": "Lymphocyte", "2": "Tumor_or_Epithelial", "3": "Stromal"}
OCELOT_CLASSES = {"1": "Other", "2": "Tumor"}
M2C_TEST = "brca_ds_test.txt"
M2C_MPP, NUCLS_MPP = 0.5, 0.2
"""Pixel sizes as published, µm."""
_END = re.compile(r"(_gt_class_coords)?(\.[A-Za-z]\w*)?")
_TCGA = re.compile(r"TCGA-\w{2}-\w{4}")


def read_m2c(source: Path, mpp: float | None = None) -> PointSet:
    """Read BRCA-M2C: `images/<name>.png`, in folders or not, and `labels/<name>.txt` or `<name>_gt_class_coords.txt` with `y x class`.

    Images that `brca_ds_test.txt` lists are left out, because that is the test set of the publisher.
    """
    images, notes = {}, []
    points: list[Point] = []
    used, remark = _without_test(_pictures(source / "images"), source / M2C_TEST)
    for file in used:
        names = [source / "labels" / f"{file.stem}{end}.txt" for end in ("", "_gt_class_coords")]
        labels = next((path for path in names if path.is_file()), None)
        if labels is None:
            notes.append(file.stem)
            continue
        rows = list(_numbers(labels, " ", ("y", "x", "class"), M2C_CLASSES))
        images[file.stem] = PointImage(file.stem, _case(file.stem), file, mpp or M2C_MPP)
        points += [Point(f"{file.stem}-{line}", file.stem, x, y, raw) for line, (y, x), raw in rows]
    remarks = (*remark, *_left_out(notes, source / "labels"), *_published(mpp, M2C_MPP))
    return PointSet("m2c", "breast", images, points, M2C_CLASSES, notes=remarks)


def read_ocelot(source: Path, mpp: float | None = None) -> PointSet:
    """Read OCELOT: cell patches inside tissue patches, by the `metadata.json` of the publisher or by a table `pairs.tsv`."""
    places = _metadata(source) if (source / "metadata.json").is_file() else _pairs(source)
    images, groups, notes = {}, {}, []
    points: list[Point] = []
    for name, place in places.items():
        if absent := [path for path in (place.cell, place.tissue, place.labels) if not path.is_file()]:
            notes.append(f"{name} ({absent[0].name} is missing)")
            continue
        context = (place.tissue, place.tissue_mpp, _corner(place))
        images[name] = PointImage(name, place.case, place.cell, mpp or place.cell_mpp, *context)
        groups[name] = place.organ
        rows = _numbers(place.labels, ",", ("x", "y", "class"), OCELOT_CLASSES)
        points += [Point(f"{name}-{line}", name, x, y, raw) for line, (x, y), raw in rows]
    return PointSet("ocelot", "other", images, points, OCELOT_CLASSES, groups, _left_out(notes, source))


@dataclass(frozen=True)
class _Pair:
    case: str
    organ: str
    cell_mpp: float
    tissue_mpp: float
    place: tuple[float, ...]
    cell: Path
    tissue: Path
    labels: Path


def _pairs(source: Path) -> dict[str, _Pair]:
    path, pairs = source / "pairs.tsv", {}
    numbers = ("cell_mpp", "tissue_mpp", "cell_x0", "cell_y0", "tissue_x0", "tissue_y0", "tissue_x1", "tissue_y1")
    missing = "Name the folder that holds metadata.json, or pairs.tsv."
    for line, row in read_rows(path, required=("pair", "case", "organ", *numbers), missing=missing).rows:
        mpp, tissue_mpp, *place = (_number(path, f"line {line}, {name}", row[name]) for name in numbers)
        folders = (("cell", ".jpg"), ("tissue", ".jpg"), ("annotations", ".csv"))
        files = [source / folder / f"{row['pair']}{end}" for folder, end in folders]
        pairs[row["pair"]] = _Pair(row["case"], row["organ"], mpp, tissue_mpp, tuple(place), *files)
    return pairs


def _metadata(source: Path) -> dict[str, _Pair]:
    path, pairs = source / "metadata.json", {}
    for name, found in read_json(path).get("sample_pairs", {}).items():
        try:
            cell, tissue, subset = found["cell"], found["tissue"], found["subset"]
            mpp, tissue_mpp = float(cell["resized_mpp_x"]), float(tissue["resized_mpp_x"])
            corners = (cell["x_start"], cell["y_start"], tissue["x_start"], tissue["y_start"], tissue["x_end"], tissue["y_end"])
            case, organ, place = _case(found["slide_name"]), found["organ"], tuple(map(float, corners))
        except (KeyError, TypeError, ValueError) as error:
            problem = f"pair {name} lacks a field, or it is not a number ({error})"
            raise UserError(path, "sample_pairs", problem, "Copy the file of the data set again.") from error
        files = [source / "images" / subset / frame / f"{name}.jpg" for frame in ("cell", "tissue")]
        files.append(source / "annotations" / subset / "cell" / f"{name}.csv")
        pairs[name] = _Pair(case, organ, mpp, tissue_mpp, place, *files)
    return pairs


def _corner(pair: _Pair) -> tuple[float, float]:
    """Return where the cell patch begins in the tissue patch, px of the latter; places are px of the whole slide."""
    x, y, left, top, right, bottom = pair.place
    if min(right - left, bottom - top) <= 0:
        raise UserError(pair.tissue, "place", "the tissue patch has no area", "Copy the table of the data set again.")
    with Image.open(pair.tissue) as picture:
        width, height = picture.size
    return (x - left) / (right - left) * width, (y - top) / (bottom - top) * height


def read_nucls(source: Path, mpp: float | None = None) -> PointSet:
    """Read crops of NuCLS as CellViT++ keeps them: `images/`, `labels/*.csv` with `x,y,class`, and `label_map.yaml` with the classes.

    The crops have no case and no pixel size: each is its own case, and 0.2 µm is assumed.
    """
    path = source / "label_map.yaml"
    names = read_yaml(path)
    if not isinstance(names, dict) or not names:
        raise UserError(path, "file", "it maps no numbers to classes", "Write one line per class, such as `0: tumor`.")
    classes = {str(raw): name_class(path, str(name)) for raw, name in names.items()}
    images, notes = {}, []
    points: list[Point] = []
    for file in _pictures(source / "images"):
        if not (labels := source / "labels" / f"{file.stem}.csv").is_file():
            notes.append(file.stem)
            continue
        images[file.stem] = PointImage(file.stem, file.stem, file, mpp or NUCLS_MPP)
        rows = _numbers(labels, ",", ("x", "y", "class"), classes)
        points += [Point(f"{file.stem}-{line}", file.stem, x, y, raw) for line, (x, y), raw in rows]
    return PointSet("nucls", "breast", images, points, classes, notes=(*_left_out(notes, source / "labels"), *_published(mpp, NUCLS_MPP)))


def read_point_table(source: Path, mpp: float | None = None) -> PointSet:
    """Read a table `image, x_px, y_px, class` with optional columns `case` and `mpp`; paths of images start from its folder."""
    images: dict[str, PointImage] = {}
    points: list[Point] = []
    classes: dict[str, str] = {}
    missing = "Name the table of the points."
    for line, row in read_rows(source, required=("image", "x_px", "y_px", "class"), missing=missing, max_mb=MAX_POINTS_MB).rows:
        if empty := [column for column in ("image", "class") if not row[column]]:
            raise UserError(source, f"line {line}, {empty[0]}", "it is empty", "Fill it in, or remove the row.")
        found = _table_image(source, line, row, mpp)
        if images.setdefault(found.name, found) != found:
            problem = f"{row['image']} has another case, pixel size or path in an earlier line"
            raise UserError(source, f"line {line}, image", problem, "Write the same in all rows of an image.")
        classes.setdefault(row["class"], name_class(source, row["class"]))
        x, y = (_number(source, f"line {line}, {column}", row[column]) for column in ("x_px", "y_px"))
        points.append(Point(f"{found.name}-{line}", found.name, x, y, row["class"]))
    if repeated := [name for name in set(classes.values()) if list(classes.values()).count(name) > 1]:
        raise UserError(source, "class", f"two classes would have the name {repeated[0]}", "Write each class in one way.")
    return PointSet("images", "other", images, points, classes)


def _table_image(source: Path, line: int, row: dict[str, str], mpp: float | None) -> PointImage:
    file = source.parent / row["image"]
    if not file.is_file():
        beside = [found.name for found in file.parent.iterdir()] if file.parent.is_dir() else []
        problem = f"{row['image']} is not a file{similar(file.name, beside)}"
        raise UserError(source, f"line {line}, image", problem, "Correct the path, which starts from the folder of the table.")
    stated = row.get("mpp")
    if not stated and mpp is None:
        raise UserError(source, f"line {line}, mpp", "the pixel size is not given", "Add a column mpp, or give `--mpp`.")
    size = _number(source, f"line {line}, mpp", stated) if stated else mpp or 0.0
    if wrong := mpp_problem(size):
        problem, remedy = wrong
        raise UserError(source, f"line {line}, mpp", problem, remedy)
    name = re.sub(r"[^\w.+-]+", "_", str(Path(row["image"]).with_suffix("")))
    return PointImage(name, row.get("case") or _case(name), file, size)


def name_class(path: Path, raw: str) -> str:
    """Return a name that a class can have in a run file: letters, digits, _, + and -."""
    name = re.sub(r"[^A-Za-z0-9_+-]+", "_", raw).strip("_")[:64]
    if not name[:1].isalnum() or name == UNRESOLVED:
        name = f"class_{name}" if name else ""
    if not name or not name.isascii():
        raise UserError(path, "class", f"{raw!r} cannot be the name of a class", "Use letters, digits, _, + and -.")
    return name


def _pictures(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES and path.is_file())
    if not found:
        raise UserError(
            folder, "images", f"no file ends with {', '.join(PICTURES)}", "Name the folder that holds the folders images and labels."
        )
    repeated = [path for path in found if [other.stem for other in found].count(path.stem) > 1]
    if repeated:
        raise UserError(repeated[0], "name", "two images have this name", "Rename one of them, and its labels.")
    return found


def _without_test(pictures: list[Path], listed: Path) -> tuple[list[Path], tuple[str, ...]]:
    """Return the pictures that the publisher does not list for tests, and a remark on those left out."""
    if not listed.is_file():
        return pictures, ()
    names = [line.strip().replace("\\", "/").rpartition("/")[2] for line in read_text(listed).splitlines()]
    used = [file for file in pictures if not any(_names(name, file.stem) for name in names)]
    if not used:
        problem = f"it lists all {len(pictures)} images as the publisher's test set, so none is left"
        raise UserError(listed, "images", problem, "Add the other images of the set, or remove this file.")
    if len(used) == len(pictures):
        return used, (f"{listed} lists none of the {len(pictures)} images, so none is left out as the publisher's test set",)
    return used, (f"{len(pictures) - len(used)} images are left out, because {listed.name} lists them as the publisher's test set",)


def _names(listed: str, stem: str) -> bool:
    """Return whether a listed name is that of an image or of its labels, with or without the end of a file name."""
    # Not any end, because `1` is not listed by `10.png`.
    return listed.startswith(stem) and _END.fullmatch(listed[len(stem) :]) is not None


def _case(name: str) -> str:
    """Return the case of an image: the patient of a name of TCGA, or else the image itself."""
    found = _TCGA.match(name)
    return found[0] if found else name


def _numbers(path: Path, delimiter: str, columns: tuple[str, ...], classes: Mapping[str, str]) -> Iterator[tuple[int, list[float], str]]:
    """Yield line, the two coordinates in the order of `columns`, and raw class of each row of a table without a header."""
    rows = [] if path.stat().st_size == 0 else read_fields(path, delimiter, max_mb=MAX_POINTS_MB)
    for line, fields in rows:
        fields = [field for field in fields if field]
        if len(fields) != len(columns):
            raise UserError(
                path, f"line {line}", f"it has {len(fields)} values, not {len(columns)}", f"Write {', '.join(columns)} in each line."
            )
        place = [_number(path, f"line {line}, {column}", value) for column, value in zip(columns[:2], fields[:2], strict=True)]
        raw = fields[2].removesuffix(".0")
        if raw not in classes:
            problem = f"{fields[2]!r} is not a class of this layout"
            raise UserError(path, f"line {line}, class", problem, f"Use one of {', '.join(classes)}, or import it with `--layout table`.")
        yield line, place, raw


def _number(path: Path, field: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(path, field, f"{text!r} is not a number", "Enter a number.")
    return value


def _left_out(names: list[str], folder: Path) -> tuple[str, ...]:
    return (f"{len(names)} images have no labels in {folder} and are left out, such as {names[0]}",) if names else ()


def _published(mpp: float | None, published_mpp: float) -> tuple[str, ...]:
    text = f"the files state no pixel size, so the published {published_mpp:g} µm is used; --mpp sets another"
    return (text,) if mpp is None else ()


LAYOUTS: dict[str, Callable[[Path, float | None], PointSet]] = {
    "m2c": read_m2c,
    "ocelot": read_ocelot,
    "nucls": read_nucls,
    "table": read_point_table,
}
"""Layout → its reader, of a folder, or of a table, and the pixel size of the images, µm, if it is given."""
