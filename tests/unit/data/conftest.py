"""A slide with patches, for the tests of patch files and of patch datasets."""

import h5py
import numpy as np
import pandas as pd
import pytest

from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.image.patches import extract_patches
from nuclass_pipeline.io import write_json, write_table
from nuclass_pipeline.schemas import CELLS, LABELS

HEIGHT, WIDTH, N_CELLS = 1500, 2600, 400


@pytest.fixture(scope="package")
def patched_slide(tmp_path_factory):
    """A slide whose H&E is mirrored and turned against the Xenium image: folder, pixels, cell positions in the image."""
    folder = tmp_path_factory.mktemp("slide")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    with h5py.File(folder / "image.h5", "w") as file:
        file.create_dataset("level_0", data=pixels, chunks=(256, 256, 3), compression="lzf").attrs["mpp"] = 0.25
        file["tissue"] = np.ones((HEIGHT // 16, WIDTH // 16), np.uint8)
        file["tissue"].attrs["mpp"] = 4.0
        file.attrs.update(mpp=0.25, fill=255)
    xy_px = rng.uniform((-40, -40), (WIDTH + 40, HEIGHT + 40), (N_CELLS, 2))
    matrix = np.array([[0, 1.3, 90.0], [1.3, 0, -40.0], [0, 0, 1]])
    write_json({"matrix": matrix.tolist(), "xenium_mpp": 0.2125, "residual_um": 0.0}, folder / "registration.json")
    he_px = xy_px * 0.25 / (0.2125 * 1.3)
    xy_um = 0.2125 * (he_px @ matrix[:2, :2].T + matrix[:2, 2])
    ids = [f"aaaa{i:04d}-1" for i in range(N_CELLS)]
    table = pd.DataFrame({"cell_id": ids, "x_um": xy_um[:, 0], "y_um": xy_um[:, 1], "transcripts": 100, "controls": 0})
    write_table(table.assign(cell_area_um2=80.0, nucleus_area_um2=30.0, nucleus_transcripts=30.0), folder / "cells.parquet", CELLS)
    empty = dict.fromkeys(["cluster", "candidate", "lineage", "reason", "source"])
    empty |= dict.fromkeys(["lineage_confidence", "support", "margin", "purity"], np.nan)
    labels = pd.DataFrame({"cell_id": ids, "label": rng.choice(["T_Cell", "Unresolved"], N_CELLS), "confidence": 0.9}).assign(**empty)
    write_table(labels, folder / "labels.parquet", LABELS)
    extract_patches(
        slide="s",
        organ="lung",
        image=folder / "image.h5",
        registration=folder / "registration.json",
        cells=folder / "cells.parquet",
        labels=folder / "labels.parquet",
        config=ImageConfig(),
        local=folder / "patches_224x224.h5",
        context=folder / "patches_1024x1024.h5",
        annotations=folder / "annotations.json",
    )
    return folder, pixels, xy_px
