"""The registration of all slides in one table, each with a picture that shows whether it holds."""

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from nuclass_pipeline.data.alignment import read_registration
from nuclass_pipeline.data.image.windows import cut_window, open_image
from nuclass_pipeline.io import read_table, write_table
from nuclass_pipeline.schemas import CELLS, REGISTRATION
from nuclass_pipeline.units import ImagePixel, Micron

WINDOW_PX = 512
LEVEL = "level_1"
DOT_PX = 3


def summarize_registration(
    *, registrations: Sequence[Path], images: Sequence[Path], cells: Sequence[Path], organs: Mapping[str, str], registration: Path
) -> None:
    """Write one `REGISTRATION` row per slide; the files stand in the order of the slides in `organs`."""
    files = zip(organs.items(), registrations, images, cells, strict=True)
    rows = [_row(slide, organ, *paths) for (slide, organ), *paths in files]
    write_table(pd.DataFrame(rows, columns=[column.name for column in REGISTRATION.columns]), registration, REGISTRATION)


def _row(slide: str, organ: str, registration: Path, image: Path, cells: Path) -> dict[str, Any]:
    alignment, record = read_registration(registration)
    centroids = Micron(read_table(cells, CELLS)[["x_um", "y_um"]].to_numpy())
    return {
        "slide": slide,
        "organ": organ,
        "mpp_he": record["mpp_he"],
        "shift_x_um": record["shift_um"][0],
        "shift_y_um": record["shift_um"][1],
        "agreement": record["agreement"],
        "agreement_best": record["agreement_best"],
        "verdict": record["verdict"],
        "thumbnail": _picture(image, partial(alignment.to_image, centroids)),
    }


def _picture(image: Path, place: Callable[[float], ImagePixel]) -> bytes:
    """Return a PNG of the window around the densest place, with a dot on every cell."""
    with open_image(image) as file:
        level = file[LEVEL if LEVEL in file else "level_0"]
        xy_px = place(float(level.attrs["mpp"]))
        x, y = _densest(xy_px)
        pixels, _ = cut_window(level, x, y, WINDOW_PX, int(file.attrs["fill"]))
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    for dx, dy in xy_px - (x - WINDOW_PX / 2, y - WINDOW_PX / 2):
        draw.ellipse((dx - DOT_PX, dy - DOT_PX, dx + DOT_PX, dy + DOT_PX), outline=(0, 230, 120))
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def _densest(xy_px: NDArray[np.float64]) -> tuple[float, float]:
    squares, counts = np.unique(np.floor(xy_px / WINDOW_PX), axis=0, return_counts=True)
    x, y = (squares[int(np.argmax(counts))] + 0.5) * WINDOW_PX
    return float(x), float(y)
