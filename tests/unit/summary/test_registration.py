import io

import h5py
import numpy as np
import pandas as pd
from PIL import Image

from nuclass_pipeline.io import read_table, write_json, write_table
from nuclass_pipeline.schemas import CELLS, REGISTRATION
from nuclass_pipeline.summary.registration import summarize_registration


def write_slide(folder, xy_um):
    folder.mkdir()
    record = {"matrix": np.diag([2, 2, 1]).tolist(), "xenium_mpp": 0.25, "residual_um": 0.0, "mpp_he": 0.5, "shift_um": [1.0, -2.0]}
    write_json(record | {"correlation": 0.4, "correlation_best": 0.5, "verdict": "good"}, folder / "registration.json")
    with h5py.File(folder / "image.h5", "w") as file:
        for level, side in enumerate((2400, 1200)):
            file.create_dataset(f"level_{level}", data=np.full((side, side, 3), 200, np.uint8)).attrs["mpp"] = 0.25 * 2**level
        file.attrs["fill"] = 255
    frame = pd.DataFrame({"cell_id": [str(i) for i in range(len(xy_um))], "x_um": xy_um[:, 0], "y_um": xy_um[:, 1]})
    frame = frame.assign(cell_area_um2=1.0, nucleus_area_um2=1.0, transcripts=1, nucleus_transcripts=1.0, controls=0)
    write_table(frame, folder / "cells.parquet", CELLS)


def test_each_slide_gets_its_numbers_and_a_picture_with_its_cells(tmp_path):
    xy_um = np.array([[100.0, 100.0], [130.0, 90.0], [500.0, 500.0]])
    for name in ("a", "b"):
        write_slide(tmp_path / name, xy_um)
    files = {
        key: [tmp_path / slide / name for slide in ("a", "b")]
        for key, name in (("registrations", "registration.json"), ("images", "image.h5"), ("cells", "cells.parquet"))
    }
    summarize_registration(**files, organs={"a": "lung", "b": "colon"}, registration=tmp_path / "registration.parquet")
    table = read_table(tmp_path / "registration.parquet", REGISTRATION)
    assert table["organ"].tolist() == ["lung", "colon"]
    assert table[["shift_x_um", "shift_y_um", "correlation_best"]].to_numpy().tolist() == [[1, -2, 0.5]] * 2
    picture = np.asarray(Image.open(io.BytesIO(table["thumbnail"][0])))
    assert picture.shape == (512, 512, 3)
    marked = (picture == (0, 230, 120)).all(axis=2)
    # The densest square of 512 px at 0.5 µm/px is the first, with two cells, at (200, 200) and (260, 180).
    assert table["field_um"].tolist() == [256.0] * 2
    assert marked[195:206, 195:206].any()
    assert marked[175:186, 255:266].any()
    assert not marked[300:].any()
