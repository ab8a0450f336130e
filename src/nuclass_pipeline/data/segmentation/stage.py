"""An H&E without Xenium: its pixel size, and its nuclei in place of the cells of a bundle."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from nuclass_pipeline.config.image import SegmentationConfig
from nuclass_pipeline.data.alignment import MAX_MPP, MIN_MPP, Alignment
from nuclass_pipeline.data.image.pictures import PANEL_PX, densest_square, mark, mark_outlines, mark_square, with_key, write_pair
from nuclass_pipeline.data.image.slide import HeImage
from nuclass_pipeline.data.image.tissue import read_tissue
from nuclass_pipeline.data.image.windows import cut_window, open_image, thumbnail
from nuclass_pipeline.data.segmentation.debris import OUTSIDE_TISSUE, describe_debris, find_debris, outside_of
from nuclass_pipeline.data.segmentation.methods import make_segmenter
from nuclass_pipeline.data.segmentation.tiles import segment_image
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import whole_files, write_json, write_table
from nuclass_pipeline.schemas import CELLS, LABELS, NUCLEI, empty_labels
from nuclass_pipeline.units import HePixel

logger = logging.getLogger(__name__)

# Half of it is wider than a nucleus and the reach of the watershed, 2 × AROUND_UM, because tiles must find the same nuclei.
OVERLAP_UM = 64.0
NUCLEI_DETAIL_UM = 125.0
"""Side of the square whose outlines the picture shows."""
MAX_NUCLEI_DOTS = 20_000


def measure_image(*, image: Path, mpp: float | None = None, registration: Path) -> None:
    """Write `registration.json` of an H&E alone: centroids are in µm of its own frame.

    Parameters
    ----------
    image
        The H&E.
    mpp
        Pixel size, µm; without it, the one that the file claims, which may have two sides.
    registration
        The alignment of the H&E with itself, and its shape; without a verdict.

    Raises
    ------
    UserError
        If there is no pixel size, or none that a microscope has.
    """
    with HeImage(image) as he:
        shape, embedded, problem = he.shape, he.embedded_mpp, he.mpp_problem
        aspect = he.embedded_aspect if mpp is None else 1.0
    used = mpp or embedded
    if used is None or not MIN_MPP <= used <= MAX_MPP:
        found = problem or "the file states no pixel size" if used is None else f"{used:g} µm is not the pixel size of a microscope"
        raise UserError(image, "mpp", found, "Enter the true one, in µm, in the column mpp of the slide sheet.")
    if mpp is None:
        size = " × ".join(f"{side:.4f}" for side in dict.fromkeys((used / aspect**0.5, used * aspect**0.5)))
        logger.warning("%s: the pixel size in the file, %s µm, is used; such sizes are often wrong", image, size)
    alignment = Alignment(np.diag([aspect**-0.5, aspect**0.5, 1.0]), used, aspect=aspect)
    write_json(
        {
            "matrix": alignment.matrix.tolist(),
            "xenium_mpp": used,
            "mpp_he": used,
            "sides_um": alignment.sides_um,
            "embedded_mpp": embedded,
            "residual_um": 0.0,
            "height_px": shape[0],
            "width_px": shape[1],
        },
        registration,
    )


def segment_nuclei(*, image: Path, config: SegmentationConfig, gpu: bool, cells: Path, labels: Path, nuclei: Path, picture: Path) -> None:
    """Segment the nuclei of an `image.h5` tile by tile, and write them in place of cells.

    Parameters
    ----------
    image
        The resampled H&E.
    config
        Method and size of tiles.
    gpu
        Whether to use the GPU, where the method can.
    cells
        Table `CELLS`: centroids and areas of the nuclei, no transcripts.
    labels
        Table `LABELS`: every cell is Unresolved.
    nuclei
        Table `NUCLEI`: outlines.
    picture
        PNG: up to 20,000 centroids on the whole slide, and the outlines in the 125 µm that hold most nuclei.

    Raises
    ------
    UserError
        If no nucleus is found, or the weights cannot be used.
    """
    targets = whole_files(cells, labels, nuclei, picture)
    with open_image(image) as file, targets as (cells_partial, labels_partial, nuclei_partial, picture_partial):
        level, mpp = file["level_0"], float(file.attrs["mpp"])
        segmenter = make_segmenter(config, mpp, gpu=gpu)
        overlap_px = min(2 * round(OVERLAP_UM / mpp / 2), config.tile_px // 2)
        objects = segment_image(
            lambda rows, columns: level[rows, columns], level.shape[:2], segmenter, mpp, config.tile_px, overlap_px, find_debris
        )
        found, warnings = drop_debris(objects, file, mpp)
        if found.empty:
            problem = ". ".join([f"{config.method} found no nucleus", *warnings])
            raise UserError(image, "level_0", problem, "Check that the H&E shows tissue, or lower segmentation.threshold_od.")
        logger.info("%d nuclei, median %.0f µm²", len(found), found["area_um2"].median())
        write_table(_cell_table(found, mpp), cells_partial, CELLS)
        write_table(empty_labels(found["cell_id"], "no transcripts"), labels_partial, LABELS)
        outlines = [(polygon * mpp).astype(np.float32).ravel() for polygon in found["polygon"]]
        write_table(pd.DataFrame({"cell_id": found["cell_id"], "polygon_um": outlines}), nuclei_partial, NUCLEI, warnings)
        _draw(file, found, mpp, picture_partial)


def drop_debris(objects: pd.DataFrame, file: Any, mpp: float) -> tuple[pd.DataFrame, list[str]]:
    """Return the objects that are nuclei, numbered again, and sentences on the others.

    Parameters
    ----------
    objects
        Result of `segment_image`.
    file
        The `image.h5`, with its mask of tissue.
    mpp
        Its pixel size, µm.
    """
    tissue, tissue_mpp = read_tissue(file)
    outside = outside_of(tissue, objects[["x_px", "y_px"]].to_numpy() * (mpp / tissue_mpp))
    reasons = objects["reason"].where((objects["reason"] != "") | ~outside, OUTSIDE_TISSUE)
    nuclei = objects[reasons == ""].reset_index(drop=True)
    ids = [f"nucleus-{rank}" for rank in range(len(nuclei))]
    return nuclei.assign(cell_id=ids), describe_debris(reasons, tissue.sum() * tissue_mpp**2 / 1e6)


def _cell_table(found: pd.DataFrame, mpp: float) -> pd.DataFrame:
    centroids = {"x_um": found["x_px"] * mpp, "y_um": found["y_px"] * mpp}
    absent = {"cell_area_um2": np.nan, "transcripts": 0, "nucleus_transcripts": np.nan, "controls": 0}
    return found[["cell_id"]].assign(**centroids, nucleus_area_um2=found["area_um2"], **absent)


def _draw(file: Any, found: pd.DataFrame, mpp: float, path: Path) -> None:
    level = file["level_0"]
    xy_px = HePixel(found[["x_px", "y_px"]].to_numpy())
    small, small_mpp = thumbnail(file, mpp * max(level.shape) / PANEL_PX)
    scale = PANEL_PX / max(small.shape)
    whole = Image.fromarray(small).resize((max(1, round(small.shape[1] * scale)), max(1, round(small.shape[0] * scale))))
    to_panel = mpp / small_mpp * scale
    mark(whole, xy_px[:: -(-len(xy_px) // MAX_NUCLEI_DOTS)] * to_panel, 1)
    corner, side_px = densest_square(xy_px, NUCLEI_DETAIL_UM, mpp, level.shape[:2])
    mark_square(whole, corner * to_panel, side_px * to_panel)
    x_px, y_px = corner + side_px / 2
    pixels, _ = cut_window(level, x_px, y_px, side_px, int(file.attrs["fill"]))
    detail = Image.fromarray(pixels).resize((PANEL_PX, PANEL_PX), Image.Resampling.BICUBIC)
    mark_outlines(detail, [(polygon - corner) * (PANEL_PX / side_px) for polygon in found["polygon"]])
    keyed = with_key(whole, small_mpp / scale, f"green dots: nuclei; {len(xy_px):,} found; square: right panel")
    write_pair(keyed, with_key(detail, mpp * side_px / PANEL_PX, "green lines: outlines of nuclei"), path)
