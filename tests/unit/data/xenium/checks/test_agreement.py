"""Files of a bundle that contradict each other about its cells, names and counts."""

import json
import shutil

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import tifffile

from nuclass_pipeline.data.xenium.checks.boxes import Boxes
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_warnings
from tests.unit.data.xenium.checks.changes import ROW, both, centroids, manifest, matrix, put, replaced, scaled, shuffled, table
from tests.unit.data.xenium.test_mutations import assert_bundle_refused, read
from tests.unit.data.xenium.test_mutations_matrix import at

CELLS, H5, XY = "cells.parquet", "cell_feature_matrix.h5", "x_centroid, y_centroid"
OUTLINES, TRANSCRIPTS = "cell_boundaries.parquet", "transcripts.parquet"


def only(*names):
    """Keep manifest, cells, matrix and `names` of the bundle."""

    def drop(bundle):
        for path in bundle.iterdir():
            if path.name not in ("experiment.xenium", CELLS, H5, *names):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    return drop


def copy(change, name="cells.csv.gz"):
    """Add a second cell table, made from the first by `change`."""
    return lambda bundle: change(pd.read_parquet(bundle / CELLS)).to_csv(bundle / name, index=False)


def exchanged(name, *columns):
    return table(lambda f: f.rename(columns=dict(zip(columns, columns[::-1], strict=True))), name)


def of_other_cells(frame):
    return frame.assign(cell_id=frame["cell_id"].str.replace("-1", "-2"))


PIXELS = centroids(lambda xy: xy / 0.2125)
SWAPPED = centroids(lambda xy: xy[:, ::-1])
# The manifest of these bundles states no region, because it would catch them first.
NO_REGION = manifest(region_area=None, total_cell_area=None)
ONE_AWAY = put("x_centroid", 900.0)
REFUSED = {
    "x and y exchanged": (SWAPPED, CELLS, XY, "they fit with x and y exchanged"),
    "x and y exchanged, no outlines": (both(only(TRANSCRIPTS), SWAPPED), CELLS, XY, "they fit with x and y exchanged"),
    "x and y exchanged, nuclei": (both(only("nucleus_boundaries.parquet"), SWAPPED), CELLS, XY, "they fit with x and y exchanged"),
    "x and y exchanged, image": (both(only("morphology_focus"), SWAPPED), CELLS, XY, "lies beyond morphology_focus_0000.ome.tif"),
    "pixels, outlines": (both(only(OUTLINES), NO_REGION, PIXELS), CELLS, XY, "they fit as pixels"),
    "pixels, transcripts": (both(only(TRANSCRIPTS), NO_REGION, PIXELS), CELLS, XY, "they fit as pixels"),
    "pixels, image": (both(only("morphology_focus"), NO_REGION, PIXELS), CELLS, XY, "lies beyond morphology_focus_0000.ome.tif"),
    "outlines in pixels": (table(lambda f: f.assign(vertex_x=f["vertex_x"] / 0.2125, vertex_y=f["vertex_y"] / 0.2125), "cell_boundaries"),
                           CELLS, XY, "µm from its outline in cell_boundaries.parquet; 112 of 112 cells do"),
    "outlines with x and y exchanged": (exchanged("cell_boundaries", "vertex_x", "vertex_y"), CELLS, XY, "they fit with x and y exchanged"),
    "transcripts with x and y exchanged": (exchanged("transcripts", "x_location", "y_location"), CELLS, XY, "from its transcripts"),
    "one centroid elsewhere": (ONE_AWAY, CELLS, XY, "from its outline in cell_boundaries.parquet; 1 of 112 cells do"),
    "centroids of other cells": (centroids(shuffled), CELLS, XY, "from its outline"),
    "areas of pixels": (both(NO_REGION, scaled(1 / 0.2125**2, "cell_area")), CELLS, "cell_area", "of the box around the outline"),
    "areas of mm²": (both(NO_REGION, scaled(1e-6, "cell_area", "nucleus_area")), CELLS, "cell_area", "e-07 of"),
    "outlines of other cells": (table(of_other_cells, "cell_boundaries"), OUTLINES, "cell_id", "no outline is of a cell of cells.parquet"),
    "a vertex without number": (table(lambda f: f.assign(vertex_x=np.nan), "cell_boundaries"), OUTLINES, "vertex_x", "nan is not"),
    "a place without number": (table(lambda f: f.assign(x_location=np.inf), "transcripts"), TRANSCRIPTS, "x_location", "inf is not"),
    "a tenth of the cells": (table(lambda f: f.iloc[::10]), CELLS, "cell_id", "has 12 of the 112 cells of cell_feature_matrix.h5"),
    "transcripts of other genes": (table(lambda f: f.assign(feature_name=shuffled(f["feature_name"])), "transcripts"), TRANSCRIPTS,
                                   "cell_id", "more gene transcripts"),
    "genes of the matrix exchanged": (replaced(features__name=lambda v: np.concatenate([v[:469][::-1], v[469:]])), TRANSCRIPTS,
                                      "feature_name", "more transcripts of"),
    "counts of other cells": (table(lambda f: f.assign(transcript_counts=f["transcript_counts"].to_numpy()[::-1])), CELLS,
                              "transcript_counts", "such as"),
    "a second table without a cell": (copy(lambda f: f.iloc[1:]), "cells.csv.gz", "cell_id", "111 cells, and cells.parquet has 112"),
    "a second table of other cells": (copy(of_other_cells, "cells.csv"), "cells.csv", "cell_id", "is in one of them alone"),
    "a second table with another place": (copy(lambda f: f.assign(x_centroid=f["x_centroid"] + 1)), "cells.csv.gz", "x_centroid",
                                          "112 of 112 cells differ"),
    "a second table with another count": (copy(lambda f: f.assign(transcript_counts=f["transcript_counts"].where(f.index != ROW, 0))),
                                          "cells.csv.gz", "transcript_counts", "0 for cell"),
    "a second table with other areas": (copy(lambda f: f.assign(cell_area=f["cell_area"] * 2)), "cells.csv.gz", "cell_area", "differ"),
    "a second table in another order": (copy(lambda f: f.assign(x_centroid=f["x_centroid"].to_numpy()[::-1])), "cells.csv.gz", "x_centroid",
                                        "cells differ"),
    "a second table that is broken": (lambda bundle: (bundle / "cells.csv.gz").write_bytes(b"\x1f\x8b"), "cells.csv.gz", "file", "not a"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_files_that_contradict_each_other_are_refused(bundle, case):
    damage, file, field, problem = REFUSED[case]
    damage(bundle)
    assert_bundle_refused(bundle, file, field, problem)


def repeated(group):
    """Count the first feature of the first cell twice."""
    indices = group["indices"][:]
    indices[1] = indices[0]
    del group["indices"]
    group["indices"] = indices


def of_cell(value):
    """Give one cell this name in table and matrix."""

    def damage(bundle):
        frame = pd.read_parquet(bundle / CELLS)
        frame.loc[ROW, "cell_id"] = value
        frame.to_parquet(bundle / CELLS, index=False)
        with h5py.File(bundle / H5, "r+") as file:
            ids = [name.decode() for name in file["matrix/barcodes"][:]]
            ids[ROW] = value
            del file["matrix/barcodes"]
            file["matrix"].create_dataset("barcodes", data=ids, dtype=h5py.string_dtype())

    return damage


def of_gene(value, field="name"):
    return replaced(**{f"features__{field}": lambda values: np.array([value, *values[1:].tolist()], dtype="S300")})


CONTROL = 500
MATRICES = {
    "a feature twice in a cell": (matrix(repeated), H5, "counts", "has two counts of"),
    "all counts zero": (replaced(data=lambda v: v * 0), H5, "counts", "are all zero"),
    "a count beyond the type": (replaced(data=at(-1, 2**40, np.int64)), H5, "counts", f"{2**40} is not a count; 1 of"),
    "a count below zero wrapped": (replaced(data=at(-1, 2**64 - 1, np.uint64)), H5, "counts", f"{2**64 - 1} is not a count; 1 of"),
    "an id twice": (replaced(features__id=lambda v: at(1, v[0])(v)), H5, "features", "occurs twice"),
    "an id of a control twice": (replaced(features__id=lambda v: at(CONTROL, v[0])(v)), H5, "features", "occurs twice"),
    "a gene with a line end": (of_gene(b"AB\nC"), H5, "features", "'AB\\nC' in row 1 has a character that cannot be seen"),
    "a gene with a tab": (of_gene(b"AB\tC"), H5, "features", "cannot be seen"),
    "a gene with a blank": (of_gene(b" ABC"), H5, "features", "begins or ends with a blank"),
    "a gene of 201 characters": (of_gene(b"A" * 201), H5, "features", "'AAAAAAAAAAAAAAAAAAAA'… in row 1 has 201 characters"),
    "a cell with a blank": (of_cell("a b-1 "), CELLS, "cell_id", "'a b-1 ' in row 8 begins or ends with a blank"),
    "a cell with a line end": (of_cell("a\nb"), CELLS, "cell_id", "'a\\nb' in row 8 has a character that cannot be seen"),
    "a cell with NUL": (table(lambda f: f.assign(cell_id=[f"{name}\0" for name in f["cell_id"]])), CELLS, "cell_id", "cannot be seen"),
    "a cell with a byte-order mark": (of_cell("\ufeffab-1"), CELLS, "cell_id", "'\\ufeffab-1' in row 8"),
    "a cell written right to left": (of_cell("ab\u202ecd-1"), CELLS, "cell_id", "cannot be seen"),
    "a cell of a million characters": (of_cell("a" * 10**6), CELLS, "cell_id", "in row 8 has 1,000,000 characters"),
    "a cell of blanks": (of_cell("  "), CELLS, "cell_id", "is empty in row 8"),
}


@pytest.mark.parametrize("case", MATRICES)
def test_names_and_counts_that_cannot_be_are_refused(bare, case):
    damage, file, field, problem = MATRICES[case]
    damage(bare)
    assert_bundle_refused(bare, file, field, problem)


@pytest.mark.parametrize("name", ["=1+1", "+cell", "-1", "@SUM(A1)", "<script>alert(1)</script>", "a b-1", "é-1", "%s", "{slide}", "'x"])
def test_other_names_of_cells_are_read_as_they_are(bare, name):
    of_cell(name)(bare)
    read(bare)
    assert pd.read_parquet(bare / "out/cells.parquet")["cell_id"].iloc[ROW] == name
    assert anndata.read_h5ad(bare / "out/counts.h5ad").obs_names[ROW] == name


def test_the_order_of_the_features_in_a_cell_has_no_meaning(bare):
    read(bare)
    expected = anndata.read_h5ad(bare / "out/counts.h5ad").X

    def reverse(group):
        start, end = group["indptr"][:2]
        for name in ("indices", "data"):
            group[name][start:end] = group[name][start:end][::-1]

    matrix(reverse)(bare)
    read(bare)
    found = anndata.read_h5ad(bare / "out/counts.h5ad").X
    assert (found.indices == expected.indices).all()
    assert (found.data == expected.data).all()


WARNED = {
    "some cells are not in the table": (table(lambda f: f.iloc[:100]), "12 of 112 cells of the matrix are not in the cell table"),
    "some cells have no outline": (table(lambda f: f[f["cell_id"] != f["cell_id"][0]], "cell_boundaries"), "1 of 112 cells have no"),
    "some transcripts are missing": (table(lambda f: f.iloc[::2], "transcripts"), "nucleus_transcripts is empty there"),
    "one cell has other transcripts": (
        both(only(), table(lambda f: f.assign(transcript_counts=f["transcript_counts"].where(f.index != ROW, 0)))),
        "transcript_counts differs from the genes of cell_feature_matrix.h5 in 1 of 112 cells, such as",
    ),
    "other controls": (scaled(2, "control_probe_counts", "unassigned_codeword_counts"), "_counts differs from the controls of"),
    "one cell is far from its transcripts": (both(only(TRANSCRIPTS), ONE_AWAY), "transcripts in transcripts.parquet; 1 of 112 cells do"),
}  # fmt: skip


@pytest.mark.parametrize("case", WARNED)
def test_what_is_unusual_is_a_warning_in_the_table(bundle, case):
    damage, warning = WARNED[case]
    damage(bundle)
    read(bundle)
    found = read_warnings(bundle / "out/cells.parquet")
    assert any(warning in line for line in found), found


def test_a_second_table_of_the_same_cells_in_another_order_is_the_same(bundle):
    copy(lambda f: f.sample(frac=1, random_state=0).round(3))(bundle)
    read(bundle)
    assert read_warnings(bundle / "out/cells.parquet") == []


@pytest.mark.parametrize("mpp", [0.85, None])
def test_a_reduced_morphology_image_is_not_refused(bundle, mpp):
    path = next((bundle / "morphology_focus").iterdir())
    metadata = {"axes": "YX"} | ({"PhysicalSizeX": mpp, "PhysicalSizeY": mpp} if mpp else {})
    tifffile.imwrite(path, np.zeros((64, 64), np.uint16), metadata=metadata)
    read(bundle)
    beyond = [warning for warning in read_warnings(bundle / "out/cells.parquet") if "it states no size" in warning]
    assert len(beyond) == (mpp is None)
    path.write_bytes(b"II*\0")
    read(bundle)


def test_what_a_refusal_recommends_works(bundle):
    (bundle / "cells.csv").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"cells\.csv: file: not a readable CSV .* or remove cells\.csv: "):
        read(bundle)
    (bundle / "cells.csv").unlink()
    copy(lambda f: f.iloc[1:])(bundle)
    with pytest.raises(UserError, match=r"or remove cells\.csv\.gz: cells\.parquet is the one that is read"):
        read(bundle)
    (bundle / "cells.csv.gz").unlink()
    exchanged("transcripts", "x_location", "y_location")(bundle)
    manifest(num_cells=5)(bundle)
    with pytest.raises(UserError, match="or correct the number"):
        read(bundle)
    manifest(num_cells=112)(bundle)
    with pytest.raises(UserError, match=r"in transcripts\.parquet"):
        read(bundle)
    (bundle / "transcripts.parquet").unlink()
    read(bundle)
    assert json.loads((bundle / "experiment.xenium").read_text())["num_cells"] == 112


def test_the_distance_from_a_box_is_0_inside_and_nan_without_points(tmp_path):
    boxes = Boxes(tmp_path / "t.parquet", 3)
    boxes.add(np.array([0, 0, -1, 1]), np.array([[0.0, 0], [10, 20], [99, 99], [5, 5]]))
    assert boxes.filled.tolist() == [True, True, False]
    assert boxes.area_um2.tolist()[:2] == [200.0, 0.0]
    found = boxes.distance_um(np.array([[13.0, 24], [5, 5], [0, 0]]))
    assert found[:2].tolist() == [5.0, 0.0]
    assert np.isnan(found[2])
    assert np.isnan(boxes.area_um2[2])
