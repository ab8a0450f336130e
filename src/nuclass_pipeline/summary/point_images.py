"""A few of the held-out images with points in one table, so that figures can draw labels and predictions on them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from nuclass_pipeline.data.image.pictures import encode_jpeg
from nuclass_pipeline.data.image.windows import cut_window, open_image
from nuclass_pipeline.io import read_table, write_table
from nuclass_pipeline.schemas import CELLS, LABELS, POINT_IMAGES
from nuclass_pipeline.vocabulary import UNRESOLVED

MAX_IMAGES = 4
MAX_FIELD_UM = 128.0
"""Side of what is shown of an image, because nuclei of a larger square would be dots."""
_MARGIN_UM = 8.0
"""How far the square reaches beyond the cells of a small image."""
_JPEG_QUALITY = 90


def summarize_point_images(
    *, images: Sequence[Path], cells: Sequence[Path], labels: Sequence[Path], slides: Sequence[str], point_images: Path
) -> None:
    """Write one row for each chosen image. The choice depends on the labels alone, never on predictions.

    Parameters
    ----------
    images, cells, labels
        `image.h5`, table `CELLS` with `case` and `image`, and table `LABELS` of each slide, in the order of `slides`.
    slides
        Held-out slides of kind `images`.
    point_images
        Table `POINT_IMAGES`.
    """
    listed = [_cells(slide, *paths) for slide, *paths in zip(slides, cells, labels, strict=True)]
    chosen = choose_images(pd.concat(listed, ignore_index=True))
    files = dict(zip(slides, images, strict=True))
    rows: list[dict[str, Any]] = [dict(row) for row in chosen.to_dict("records")]  # type: ignore[arg-type]
    rows = [row | _cut(files[row["slide"]], row) for row in rows]
    write_table(pd.DataFrame(rows, columns=[column.name for column in POINT_IMAGES.columns]), point_images, POINT_IMAGES)


def _cells(slide: str, cells: Path, labels: Path) -> pd.DataFrame:
    frame = read_table(cells, CELLS)[["cell_id", "x_um", "y_um", "case", "image"]]
    return frame.merge(read_table(labels, LABELS, ["cell_id", "label"]), on="cell_id", validate="1:1").assign(slide=slide)


def choose_images(cells: pd.DataFrame) -> pd.DataFrame:
    """Choose at most four images of different cases: those whose rarest class has most cells in the square that is shown.

    Images without a class have 0 cells of it. Of equal images, those with more classes, then with more cells, go first.

    Parameters
    ----------
    cells
        Columns slide, image, case, label, x_um and y_um of all cells.

    Returns
    -------
    DataFrame
        Columns slide, image, case, and x_um, y_um, field_um: left and upper edge and side of the square, µm.
    """
    squares = [_square(part) for _, part in cells.groupby(["slide", "image"], sort=True)]
    shown = pd.concat([part.assign(square=number) for number, (_, part) in enumerate(squares)])
    named = shown[shown["label"] != UNRESOLVED]
    counts = pd.crosstab(named["square"], named["label"]).reindex(range(len(squares)), fill_value=0)
    table = pd.DataFrame([row for row, _ in squares]).assign(
        rarest=counts.min(axis=1), classes=(counts > 0).sum(axis=1), cells=counts.sum(axis=1)
    )
    order = ["rarest", "classes", "cells"]
    ranked = table[table["cells"] > 0].sort_values(order, ascending=False, kind="stable")
    return ranked.drop_duplicates("case").head(MAX_IMAGES).drop(columns=order)


def _square(cells: pd.DataFrame) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the square in the middle of the cells of one image, and the cells in it."""
    xy_um = cells[["x_um", "y_um"]].to_numpy(float)
    low, high = xy_um.min(axis=0), xy_um.max(axis=0)
    side_um = min(MAX_FIELD_UM, float(max(high - low)) + 2 * _MARGIN_UM)
    corner = (low + high - side_um) / 2
    inside = ((xy_um >= corner) & (xy_um < corner + side_um)).all(axis=1)
    place = {"x_um": float(corner[0]), "y_um": float(corner[1]), "field_um": side_um}
    names = {name: cells[name].iloc[0] for name in ("slide", "image", "case")}
    return names | place, cells[inside]


def _cut(path: Path, row: dict[str, Any]) -> dict[str, Any]:
    """Return the pixels of a square as a JPEG, and its edges moved to those of whole pixels."""
    with open_image(path) as file:
        mpp, level = float(file.attrs["mpp"]), file["level_0"]
        side_px = max(1, round(row["field_um"] / mpp))
        left, top = round(row["x_um"] / mpp), round(row["y_um"] / mpp)
        pixels, _ = cut_window(level, left + side_px / 2, top + side_px / 2, side_px, int(file.attrs["fill"]))
    return {
        "x_um": left * mpp,
        "y_um": top * mpp,
        "field_um": side_px * mpp,
        "picture": encode_jpeg(Image.fromarray(pixels), _JPEG_QUALITY),
    }
