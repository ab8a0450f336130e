"""The registration of all slides in one table, each with a picture of its cells on the H&E."""

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from nuclass_pipeline.data.alignment import read_registration
from nuclass_pipeline.data.image.pictures import fullest_squares, mark
from nuclass_pipeline.data.image.windows import cut_window, open_image
from nuclass_pipeline.io import read_table, write_table
from nuclass_pipeline.schemas import CELLS, REGISTRATION
from nuclass_pipeline.units import ImagePixel, Micron

WINDOW_PX = 512
"""Side of a picture."""
# Half the resolution, because nuclei are still seen and a picture then covers four times the area.
LEVEL = "level_1"
DOT_PX = 5
"""Radius of the circle on a cell."""


def summarize_registration(
    *, registrations: Sequence[Path], images: Sequence[Path], cells: Sequence[Path], organs: Mapping[str, str], registration: Path
) -> None:
    """Write one row per slide.

    Parameters
    ----------
    registrations, images, cells
        `registration.json`, `image.h5` and table `CELLS` of each slide, in the order of `organs`.
    organs
        Slide → organ.
    registration
        Table `REGISTRATION`.
    """
    files = zip(organs.items(), registrations, images, cells, strict=True)
    rows = [_row(slide, organ, *paths) for (slide, organ), *paths in files]
    write_table(pd.DataFrame(rows, columns=[column.name for column in REGISTRATION.columns]), registration, REGISTRATION)


def _row(slide: str, organ: str, registration: Path, image: Path, cells: Path) -> dict[str, Any]:
    alignment, record = read_registration(registration)
    centroids = Micron(read_table(cells, CELLS)[["x_um", "y_um"]].to_numpy())
    picture, mpp = _picture(image, partial(alignment.to_image, centroids))
    return {
        "slide": slide,
        "organ": organ,
        "mpp_he": record["mpp_he"],
        "shift_x_um": record["shift_um"][0],
        "shift_y_um": record["shift_um"][1],
        "correlation": record["correlation"],
        "correlation_best": record["correlation_best"],
        "verdict": record["verdict"],
        "thumbnail": picture,
        "field_um": WINDOW_PX * mpp,
    }


def _picture(image: Path, place: Callable[[float], ImagePixel]) -> tuple[bytes, float]:
    """Return a PNG of the square of a grid that holds most cells, with a circle on every cell, and its pixel size, µm."""
    with open_image(image) as file:
        level = file[LEVEL if LEVEL in file else "level_0"]
        mpp = float(level.attrs["mpp"])
        xy_px = place(mpp)
        corner = fullest_squares(xy_px, WINDOW_PX, 1)[0]
        x, y = corner + WINDOW_PX / 2
        pixels, _ = cut_window(level, float(x), float(y), WINDOW_PX, int(file.attrs["fill"]))
    picture = Image.fromarray(pixels)
    # A pixel more than the radius, because Pillow rounds coordinates towards zero, and so into the picture.
    mark(picture, xy_px - corner, DOT_PX, margin_px=DOT_PX + 1, width=2)
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue(), mpp
