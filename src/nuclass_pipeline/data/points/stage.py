"""A slide of kind `images`: its images as one mosaic, its points as cells with provided labels."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from nuclass_pipeline.arrays import Booleans, Floats, Integers
from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.config.loading.points import Point, PointImage, read_images, read_points
from nuclass_pipeline.data.image.slide import HeImage
from nuclass_pipeline.data.image.tissue import write_tissue
from nuclass_pipeline.data.points.mosaic import corner, create_pyramid, draw, leaves_frame, measure, place_images
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import whole_files, write_json, write_table
from nuclass_pipeline.runtime import track
from nuclass_pipeline.schemas import CELLS, LABELS, provided_labels
from nuclass_pipeline.vocabulary import read_label_map

logger = logging.getLogger(__name__)


def import_points(
    *,
    images: Path,
    points: Path,
    pictures: Sequence[Path],
    label_map: Path,
    own: Sequence[str],
    config: ImageConfig,
    image: Path,
    picture: Path,
    registration: Path,
    cells: Path,
    labels: Path,
) -> None:
    """Write the mosaic of the images, and the points as cells with labels.

    Parameters
    ----------
    images, points
        `images.csv` and `points.csv`, in one folder.
    pictures
        Files of the images, which the first table names.
    label_map, own
        Raw labels → classes, and the run's own names of classes.
    config
        Pixel size, sides of the windows and fill value.
    image, picture
        Mosaic to write, with `frames`, and PNG of its tissue.
    registration
        The alignment of the mosaic with itself.
    cells, labels
        Tables `CELLS`, with `case` and `image`, and `LABELS`.

    Raises
    ------
    UserError
        If a table or a picture is wrong, or no point lies in its image.
    """
    table = read_images(images.parent)
    listed, each = read_points(points.parent, table), [*table.values()]
    aligned = read_label_map(label_map, own).align(point.raw for point in listed)
    rows = pd.Index(table).get_indexer(pd.Index([point.image for point in listed]))
    shapes, remarks = zip(*map(_look_at, each), strict=True)
    inside, first = _inside(listed, np.array(shapes)[rows]), _first(listed)
    sizes = [measure(one, config) for one in each]
    places, size = place_images(sizes, config.context_px)
    kept = _kept(points, inside, first)
    chosen, frames = [listed[row] for row in kept], np.hstack([places, sizes])
    xy_px = _mosaic_px(chosen, each, rows[kept], places, config.mpp)
    notes = [*_notes(listed, inside, first, aligned.dropped), *_remarks([*table], remarks), *_padding(xy_px, frames[rows[kept]], config)]
    outputs = whole_files(image, picture, registration, cells, labels)
    with outputs as (image_partial, picture_partial, registration_partial, cells_partial, labels_partial):
        with h5py.File(image_partial, "w", libver="v110") as file:
            _draw_all(file, each, frames, size, config)
            for warning in write_tissue(file, notes, picture_partial):
                logger.warning("%s: %s", points, warning)
        write_json(_registration(size, config.mpp), registration_partial)
        write_table(_cells(chosen, xy_px * config.mpp, table), cells_partial, CELLS)
        write_table(provided_labels([point.cell_id for point in chosen], [aligned.labels[row] for row in kept]), labels_partial, LABELS)


def _draw_all(file: h5py.File, images: Sequence[PointImage], frames: Integers, size: tuple[int, int], config: ImageConfig) -> None:
    create_pyramid(file, size, config)
    for image, frame in track(list(zip(images, frames, strict=True)), len(images), "images"):
        draw(file, image, (int(frame[0]), int(frame[1])), config)
    file["frames"] = frames


def _look_at(image: PointImage) -> tuple[tuple[int, int], list[str]]:
    """Return height and width of an image, px, and what a reader should know about its file."""
    with HeImage(image.file) as opened:
        return opened.shape, opened.notes


def _kept(path: Path, inside: Booleans, first: Booleans) -> Integers:
    if not inside.any():
        problem = f"none of {len(inside)} points lies in its image"
        raise UserError(path, "x_px", problem, "Enter places in px of the image, from its left upper corner.")
    return np.flatnonzero(inside & first)


def _remarks(names: Sequence[str], remarks: Sequence[list[str]]) -> Iterator[str]:
    noted = [(name, found[0]) for name, found in zip(names, remarks, strict=True) if found]
    if noted:
        yield f"{len(noted)} of {len(names)} images have a remark, such as {noted[0][0]}: {noted[0][1]}"


def _inside(points: Sequence[Point], shapes: Integers) -> Booleans:
    xy = np.array([(point.x_px, point.y_px) for point in points])
    return np.asarray(((xy >= 0) & (xy < shapes[:, ::-1])).all(axis=1))


def _first(points: Sequence[Point]) -> Booleans:
    """Return whether each point is the first at its place, because two marks of one cell would count it twice."""
    places = pd.DataFrame([(point.image, point.x_px, point.y_px) for point in points])
    return ~places.duplicated().to_numpy()


def _notes(points: Sequence[Point], inside: Booleans, first: Booleans, dropped: Counter[tuple[str, str]]) -> Iterator[str]:
    if lost := int((~inside).sum()):
        yield f"{lost} of {len(points)} points lie outside their image and are left out, such as {_one(points, ~inside)}"
    if repeated := int((inside & ~first).sum()):
        example = _one(points, inside & ~first)
        yield f"{repeated} of {len(points)} points lie at the place of an earlier one and are left out, such as {example}"
    for (raw, reason), count in dropped.most_common():
        yield f"{count} cells of {raw!r} are Unresolved: {reason}"


def _one(points: Sequence[Point], chosen: Booleans) -> str:
    return points[int(np.flatnonzero(chosen)[0])].cell_id


def _padding(xy_px: Floats, frames: Integers, config: ImageConfig) -> Iterator[str]:
    for side_px, side_um, name in ((config.local_px, config.local_um, "crops"), (config.context_px, config.context_um, "context windows")):
        outside = leaves_frame(xy_px, frames, side_px)
        if outside.any():
            windows, area = 100 * (outside > 0).mean(), 100 * outside.mean()
            problem = f"{windows:.0f} % of the {name} of {side_um:g} µm are padded"
            yield f"{problem}: {area:.0f} % of the area of all lies outside the image of the cell"


def _mosaic_px(points: Sequence[Point], images: Sequence[PointImage], rows: Integers, places: Integers, mpp: float) -> Floats:
    own = np.array([(point.x_px, point.y_px) for point in points])
    scale = np.array([image.mpp / mpp for image in images])[rows]
    inner = np.array([corner(image, mpp) for image in images])[rows]
    xy_px: Floats = own * scale[:, None] + inner + places[rows][:, ::-1]
    return xy_px


def _registration(size: tuple[int, int], mpp: float) -> dict[str, object]:
    shape = {"height_px": size[0], "width_px": size[1]}
    sizes = {"xenium_mpp": mpp, "mpp_he": mpp, "sides_um": [mpp, mpp], "embedded_mpp": None, "residual_um": 0.0}
    return {"matrix": np.eye(3).tolist(), **sizes, **shape}


def _cells(points: Sequence[Point], xy_um: Floats, images: dict[str, PointImage]) -> pd.DataFrame:
    frame = pd.DataFrame({"cell_id": [point.cell_id for point in points], "x_um": xy_um[:, 0], "y_um": xy_um[:, 1]})
    absent = {"cell_area_um2": np.nan, "nucleus_area_um2": np.nan, "transcripts": 0, "nucleus_transcripts": np.nan, "controls": 0}
    names = [point.image for point in points]
    return frame.assign(**absent, case=[images[name].case for name in names], image=names)
