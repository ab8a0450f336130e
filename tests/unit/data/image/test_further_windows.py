"""Windows of a further side: cut around the same cells, in the same order, as those of the run file."""

import h5py

from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.image.further_windows import extract_windows
from nuclass_pipeline.data.image.windows import cut_window


def test_windows_of_a_further_side_are_cut_around_the_same_cells(patched_slide, tmp_path):
    folder, pixels, xy_px = patched_slide
    inputs = {"image": folder / "image.h5", "registration": folder / "registration.json", "cells": folder / "cells.parquet"}
    extract_windows(**inputs, side_px=128, config=ImageConfig(), patches=folder / "patches_128x128.h5")
    with h5py.File(folder / "patches_128x128.h5") as file, h5py.File(folder / "patches_224x224.h5") as usual:
        assert (file["keys"][:] == usual["keys"][:]).all()
        assert file["images"].shape == (len(xy_px), 128, 128, 3)
        for row in range(0, len(xy_px), 20):
            window, padded = cut_window(pixels, *xy_px[row], 128, 255)
            assert (file["images"][row] == window).all()
            assert file["padded"][row] == padded
        assert (file.attrs["mpp"], file.attrs["fill"]) == (usual.attrs["mpp"], usual.attrs["fill"])
