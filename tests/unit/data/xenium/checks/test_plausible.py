"""Cells that cannot be, in a bundle of cells, matrix and manifest alone."""

import datetime

import numpy as np
import pandas as pd
import pytest

from nuclass_pipeline.data.xenium.cells import CellTable
from nuclass_pipeline.data.xenium.checks.plausible import check_plausible
from nuclass_pipeline.io import read_warnings
from tests.unit.data.xenium.checks.changes import ROW, both, centroids, manifest, put, scaled, table
from tests.unit.data.xenium.test_mutations import assert_bundle_refused, read

NO_AREA = manifest(region_area=None, total_cell_area=None)
CELLS, MANIFEST, XY = "cells.parquet", "experiment.xenium", "x_centroid, y_centroid"


def dated(frame):
    return frame.assign(x_centroid=pd.to_datetime(frame["x_centroid"], unit="D", origin="2020-01-01"))


REFUSED = {
    "centroids in pixels": (centroids(lambda xy: xy / 0.2125), CELLS, XY, "they may be in pixels"),
    "centroids in pixels of a large slide": (centroids(lambda xy: (xy + 9000) / 0.2125), CELLS, "x_centroid", "beyond 30,000 µm; 112 of"),
    "centroids in mm": (centroids(lambda xy: xy / 1e3), CELLS, XY, "they are equal, or in mm"),
    "centroids in mm, no areas": (
        both(centroids(lambda xy: xy / 1e3), table(lambda f: f.drop(columns=["cell_area", "nucleus_area"]))),
        CELLS,
        XY,
        "they are equal, or in mm",
    ),
    "centroids in cm": (centroids(lambda xy: xy / 1e4), CELLS, XY, "they are equal, or in mm"),
    "centroids in nm": (centroids(lambda xy: xy * 1e3), CELLS, "x_centroid", "is beyond 30,000 µm"),
    "centroids as shares of the slide": (centroids(lambda xy: xy / xy.max()), CELLS, XY, "they are equal, or in mm"),
    "all centroids equal": (centroids(lambda xy: xy * 0 + 5), CELLS, "x_centroid", "5 for cell"),
    "all x equal": (put("x_centroid", 5.0, slice(None)), CELLS, "x_centroid", "is the same in all cells; 112 of 112"),
    "all y zero": (put("y_centroid", 0.0, slice(None)), CELLS, "y_centroid", "is the same in all cells"),
    "cells at two places": (centroids(lambda xy: xy[np.arange(len(xy)) % 2]), CELLS, XY, "within 0 µm of another"),
    "one centroid at 10^12 µm": (put("y_centroid", 1e12), CELLS, "y_centroid", "is beyond 30,000 µm; 1 of 112 cells"),
    "one centroid at -1 µm": (put("x_centroid", -1.0), CELLS, "x_centroid", "is negative"),
    "centroids around the middle": (centroids(lambda xy: xy - xy.mean(axis=0)), CELLS, "x_centroid", "is negative"),
    "y upwards": (centroids(lambda xy: xy * (1, -1)), CELLS, "y_centroid", "is negative"),
    "NaN": (put("x_centroid", np.nan), CELLS, "x_centroid", "'nan' for cell"),
    "infinite": (put("y_centroid", np.inf), CELLS, "y_centroid", "'inf' for cell"),
    "dates": (table(dated), CELLS, "x_centroid", "is not a number, but datetime64"),
    "a date": (
        table(lambda f: f.assign(x_centroid=[datetime.date(2024, 3, 2)] * len(f))),
        CELLS,
        "x_centroid",
        "'2024-03-02' for cell",
    ),
    "dates of a spreadsheet": (table(lambda f: f.assign(x_centroid="2-Mar")), CELLS, "x_centroid", "'2-Mar' for cell"),
    "day numbers of a spreadsheet": (put("x_centroid", 45321.0), CELLS, "x_centroid", "45321 for cell"),
    "durations": (table(lambda f: f.assign(cell_area=pd.to_timedelta(f["cell_area"], "s"))), CELLS, "cell_area", "timedelta64"),
    "flags": (table(lambda f: f.assign(x_centroid=f["x_centroid"] > 300)), CELLS, "x_centroid", "is not a number, but bool"),
    "an area of 10^300": (put("cell_area", 1e300), CELLS, "cell_area", "1e+300 for cell"),
    "a nucleus of 10^300": (put("nucleus_area", 1e300), CELLS, "nucleus_area", "is beyond 100,000 µm²"),
    "a negative area": (put("cell_area", -20.0), CELLS, "cell_area", "is negative"),
    "no area but zeros": (both(put("cell_area", 0.0, slice(None)), NO_AREA), CELLS, "nucleus_area", "is more than cell_area"),
    "no area but zeros, no nuclei": (
        both(table(lambda f: f.assign(cell_area=0.0).drop(columns="nucleus_area")), NO_AREA),
        CELLS,
        "cell_area",
        "is 0 in all cells",
    ),
    "areas of cells and nuclei exchanged": (
        table(lambda f: f.rename(columns={"cell_area": "nucleus_area", "nucleus_area": "cell_area"})),
        CELLS,
        "nucleus_area",
        "is more than cell_area",
    ),
    "areas in square pixels": (scaled(1 / 0.2125**2, "cell_area", "nucleus_area"), CELLS, "cell_area", "more than region_area"),
    "areas in square mm": (scaled(1e-6, "cell_area", "nucleus_area"), CELLS, "cell_area", "total_cell_area is"),
    "nuclei where none is counted": (
        table(lambda f: f.assign(nucleus_count=0)),
        CELLS,
        "nucleus_count",
        "contradicts nucleus_area",
    ),
    "fewer cells in the manifest": (manifest(num_cells=111), MANIFEST, "num_cells", "is 111, but cells.parquet has 112 cells"),
    "no cell in the manifest": (manifest(num_cells=0), MANIFEST, "num_cells", "is 0, but"),
    "another total area": (manifest(total_cell_area=1234.5), CELLS, "cell_area", "total_cell_area is 1234 µm²"),
    "a region smaller than its cells": (manifest(region_area=100.0), CELLS, "x_centroid, y_centroid", "too far for 112"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_table_that_cannot_be_is_refused(bare, case):
    damage, file, field, problem = REFUSED[case]
    damage(bare)
    assert_bundle_refused(bare, file, field, problem)


WARNED = {
    "more cells in the manifest": (
        manifest(num_cells=1200),
        "cells.parquet has 112 of the 1200 cells that num_cells of experiment.xenium states",
    ),
    "another pixel size": (manifest(pixel_size=0.25), "pixel_size is 0.25 µm in experiment.xenium; Xenium writes 0.2125"),
    "pixels without a region": (
        both(centroids(lambda xy: xy / 0.2125), NO_AREA),
        "cell diameters: pixels, or a sample?",
    ),
    "one nucleus larger than its cell": (
        table(lambda f: f.assign(nucleus_area=f["cell_area"].where(f.index == ROW, 1.0) * 2, nucleus_count=1)),
        "is more than cell_area; 1 of 112 cells",
    ),
    "two cells at one place": (
        both(NO_AREA, centroids(lambda xy: np.vstack([xy[:ROW], xy[:1], xy[ROW + 1 :]]))),
        "2 cells lie at the place of another, such as",
    ),
    "a cell far from all others": (put("y_centroid", 9000.0), "µm from all others; 1 of 112 cells do"),
}


@pytest.mark.parametrize("case", WARNED)
def test_what_is_unusual_is_a_warning_in_the_table(bare, case):
    damage, warning = WARNED[case]
    damage(bare)
    read(bare)
    assert any(warning in line for line in read_warnings(bare / "out/cells.parquet")), read_warnings(bare / "out/cells.parquet")


def test_a_sound_bundle_has_no_warning(bundle):
    read(bundle)
    assert read_warnings(bundle / "out/cells.parquet") == []


@pytest.mark.parametrize("value", ["many", None, True, -5, float("nan"), [120], {}])
def test_a_number_of_the_manifest_that_is_none_is_not_compared(value, tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"cell_id": list("abcd"), "x_centroid": rng.uniform(0, 90, 4), "y_centroid": rng.uniform(0, 90, 4)})
    record = {"pixel_size": 0.2125, "num_cells": value, "region_area": value, "total_cell_area": value}
    names = ("num_cells", "region_area", "total_cell_area") if value is not None else ()
    found = check_plausible(CellTable(tmp_path / CELLS, frame), record)
    assert found == [f"{name} of experiment.xenium is {str(value)!r}, and not a number" for name in names]
