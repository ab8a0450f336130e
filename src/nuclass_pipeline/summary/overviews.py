"""The H&E of all slides in one table: small, and in the frame of the cells, so that figures can draw cells on it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from nuclass_pipeline.data.alignment import read_registration
from nuclass_pipeline.data.image.pictures import encode_jpeg
from nuclass_pipeline.data.image.windows import open_image, thumbnail
from nuclass_pipeline.io import read_table, write_table
from nuclass_pipeline.schemas import CELLS, OVERVIEWS
from nuclass_pipeline.units import Micron

OVERVIEW_PX = 900
"""Longer side of an overview; a map two columns wide has as many at 300 dpi."""
MARGIN = 0.02
"""How far an overview reaches beyond the cells, as a share of their longer extent."""
JPEG_QUALITY = 85


def summarize_overviews(
    *, images: Sequence[Path], registrations: Sequence[Path], cells: Sequence[Path], slides: Sequence[str], overviews: Path
) -> None:
    """Write one row per slide.

    Parameters
    ----------
    images, registrations, cells
        `image.h5`, `registration.json` and table `CELLS` of each slide, in the order of `slides`.
    slides
        Slides with an H&E.
    overviews
        Table `OVERVIEWS`.
    """
    rows = [{"slide": slide, **_overview(*paths)} for slide, *paths in zip(slides, images, registrations, cells, strict=True)]
    write_table(pd.DataFrame(rows, columns=[column.name for column in OVERVIEWS.columns]), overviews, OVERVIEWS)


def _overview(image: Path, registration: Path, cells: Path) -> dict[str, Any]:
    """Resample the H&E to a square grid in the frame of the cells, µm."""
    alignment, _ = read_registration(registration)
    xy_um = read_table(cells, CELLS, ["x_um", "y_um"]).to_numpy(np.float64)
    low, high = xy_um.min(axis=0), xy_um.max(axis=0)
    margin_um = MARGIN * max(*(high - low), 1.0)
    corner, size = low - margin_um, high - low + 2 * margin_um
    mpp = float(max(size) / OVERVIEW_PX)
    with open_image(image) as file:
        pixels, level_mpp = thumbnail(file, mpp)
        fill = int(file.attrs["fill"])
    # Where the corner and its neighbours to the right and below lie in the H&E, because an affine map is given by three points.
    origin, right, below = alignment.to_image(Micron(corner + mpp * np.array([[0.0, 0], [1, 0], [0, 1]])), level_mpp)
    (a, d), (b, e) = right - origin, below - origin
    side_px = (max(1, round(size[0] / mpp)), max(1, round(size[1] / mpp)))
    matrix = (a, b, origin[0], d, e, origin[1])
    picture = Image.fromarray(pixels).transform(
        side_px, Image.Transform.AFFINE, tuple(map(float, matrix)), Image.Resampling.BILINEAR, fillcolor=(fill,) * 3
    )
    return {"x_um": float(corner[0]), "y_um": float(corner[1]), "mpp": mpp, "image": encode_jpeg(picture, JPEG_QUALITY)}
