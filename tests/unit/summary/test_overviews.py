import io

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from nuclass_pipeline.data.alignment import Alignment
from nuclass_pipeline.io import read_table, write_json, write_table
from nuclass_pipeline.schemas import CELLS, OVERVIEWS
from nuclass_pipeline.summary.overviews import OVERVIEW_PX, summarize_overviews
from nuclass_pipeline.units import Micron

# By 90 degrees and reflected, with a pixel of the H&E of 0.5 µm; the image is resampled to 1 µm.
TURNED = Alignment(np.array([[0.0, 2, 100], [2, 0, 300], [0, 0, 1]]), 0.25)
CELLS_UM = np.array([[100.0, 200.0], [700.0, 240.0], [400.0, 500.0]])


def write_slide(folder, alignment=TURNED):
    folder.mkdir()
    write_json({"matrix": alignment.matrix.tolist(), "xenium_mpp": 0.25, "residual_um": 0.0, "mpp_he": 0.5}, folder / "registration.json")
    pixels = np.full((800, 800, 3), (230, 170, 200), np.uint8)
    for x, y in alignment.to_image(Micron(CELLS_UM), 1.0).round().astype(int):
        pixels[y - 5 : y + 5, x - 5 : x + 5] = 0
    with h5py.File(folder / "image.h5", "w") as file:
        file.create_dataset("level_0", data=pixels).attrs["mpp"] = 1.0
        file.attrs["fill"] = 255
    frame = pd.DataFrame({"cell_id": list("abc"), "x_um": CELLS_UM[:, 0], "y_um": CELLS_UM[:, 1]})
    frame = frame.assign(cell_area_um2=1.0, nucleus_area_um2=1.0, transcripts=1, nucleus_transcripts=1.0, controls=0)
    write_table(frame, folder / "cells.parquet", CELLS)


@pytest.mark.parametrize("alignment", [TURNED, Alignment(np.diag([2.0, 2, 1]), 0.25)], ids=["turned", "straight"])
def test_the_picture_lies_in_the_frame_of_the_cells(tmp_path, alignment):
    write_slide(tmp_path / "a", alignment)
    files = {"images": "image.h5", "registrations": "registration.json", "cells": "cells.parquet"}
    inputs = {name: [tmp_path / "a" / file] for name, file in files.items()}
    summarize_overviews(**inputs, slides=["a"], overviews=tmp_path / "overviews.parquet")
    row = read_table(tmp_path / "overviews.parquet", OVERVIEWS).iloc[0]
    picture = np.asarray(Image.open(io.BytesIO(row["image"])).convert("L"))
    # 600 µm and a margin of 2 % of it at both sides.
    assert (row["slide"], row["x_um"], row["y_um"]) == ("a", 88.0, 188.0)
    assert row["mpp"] == pytest.approx(624 / OVERVIEW_PX)
    assert picture.shape == (round(324 / row["mpp"]), OVERVIEW_PX)
    dark_px = np.argwhere(picture < 60)[:, ::-1] + 0.5
    found_um = dark_px * row["mpp"] + row[["x_um", "y_um"]].to_numpy(float)
    nearest = np.linalg.norm(found_um[:, None] - CELLS_UM[None], axis=2)
    # Every dark pixel lies in the square of 10 µm around a cell, and every cell has such pixels around it.
    assert nearest.min(axis=1).max() < 9
    for cell in range(3):
        assert found_um[nearest.argmin(axis=1) == cell].mean(axis=0) == pytest.approx(CELLS_UM[cell], abs=1.5)
