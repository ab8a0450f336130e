"""Outlines of nuclei and cells: real files of three releases, windows, batches, and files that are broken."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nuclass_pipeline.data.xenium.boundaries import read_outlines
from nuclass_pipeline.data.xenium.matrix import open_zarr
from nuclass_pipeline.errors import UserError

EVERYWHERE = ((-np.inf, -np.inf), (np.inf, np.inf))
ILEUM, MIXED = "xoa3.0_mouse_ileum_tiny", "xoa1.x_human_jurkat_raji_sfe"
REAL = {
    ("xoa1.0.2_mouse_brain_20um/sample1", "nucleus"): {13},
    ("xoa1.0.2_mouse_brain_20um/sample2", "cell"): {13},
    ("xoa1.3_human_lung_transcripts", "nucleus"): {13},
    (MIXED, "nucleus"): {13},
    (MIXED, "cell"): {13},
    (ILEUM, "nucleus"): {9, 15, 20, 21, 22, 23, 25},
    (ILEUM, "cell"): {25},
}
"""Folder and kind → numbers of vertices."""


@pytest.mark.parametrize(("name", "what"), REAL)
def test_real_outlines_are_whole(real_data, name, what):
    found = read_outlines(real_data / name, what, *EVERYWHERE)
    path = next(path for suffix in (".parquet", ".csv") if (path := real_data / name / f"{what}_boundaries{suffix}").exists())
    table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    ids = table["cell_id"].map(lambda value: value.decode() if isinstance(value, bytes) else str(value))
    assert [cell for cell, _ in found] == list(dict.fromkeys(ids))
    assert {len(polygon) for _, polygon in found} == REAL[name, what]
    assert np.concatenate([polygon for _, polygon in found]) == pytest.approx(table[["vertex_x", "vertex_y"]].to_numpy())
    assert all((polygon[0] == polygon[-1]).all() for _, polygon in found)


@pytest.mark.parametrize("what", ["nucleus", "cell"])
@pytest.mark.parametrize("name", [ILEUM, MIXED])
def test_both_encodings_agree(real_data, tmp_path, name, what):
    (tmp_path / f"{what}_boundaries.csv.gz").write_bytes((real_data / name / f"{what}_boundaries.csv.gz").read_bytes())
    one, other = (read_outlines(folder, what, *EVERYWHERE) for folder in (real_data / name, tmp_path))
    assert [cell for cell, _ in one] == [cell for cell, _ in other]
    assert np.concatenate([xy for _, xy in one]) == pytest.approx(np.concatenate([xy for _, xy in other]), abs=1e-3)


def polygon_area(polygon):
    """Return the area of a closed polygon (vertices, 2) by the shoelace formula."""
    (x, y), (x_next, y_next) = polygon[:-1].T, polygon[1:].T
    return abs((x * y_next - x_next * y).sum()) / 2


def test_areas_are_those_of_the_table_but_for_what_was_simplified(real_data):
    """Small nuclei lose more than cells do."""
    table = pd.read_parquet(real_data / ILEUM / "cells.parquet").set_index("cell_id")
    cells, nuclei = (read_outlines(real_data / ILEUM, what, *EVERYWHERE) for what in ("cell", "nucleus"))
    ratio = [polygon_area(polygon) / table["cell_area"][cell] for cell, polygon in cells]
    assert 0.94 <= np.mean(ratio) <= 0.97
    by_cell = pd.Series([polygon_area(polygon) for _, polygon in nuclei], [cell for cell, _ in nuclei]).groupby(level=0).sum()
    assert 0.85 <= (by_cell / table["nucleus_area"][by_cell.index]).mean() <= 1
    assert len(nuclei) == table["nucleus_count"].sum()


def test_the_masks_of_the_bundle_have_the_areas_of_the_table_to_the_pixel(real_data):
    table = pd.read_parquet(real_data / ILEUM / "cells.parquet")
    with open_zarr(real_data / ILEUM / "cells.zarr.zip") as group:
        labels, pixels = np.unique(group["masks/1"][...], return_counts=True)
    assert labels.tolist() == list(range(24))
    assert pixels[1:] * 0.2125**2 == pytest.approx(table["cell_area"].to_numpy(), rel=1e-3)


def square(x, y, side=4.0):
    return [(x, y), (x + side, y), (x + side, y + side), (x, y + side), (x, y)]


def rows(polygons):
    """Return the table of polygons (cell, label, vertices)."""
    lines = [(cell, label, *vertex) for cell, label, vertices in polygons for vertex in vertices]
    return pd.DataFrame(lines, columns=["cell_id", "label_id", "vertex_x", "vertex_y"])


TWO_NUCLEI = [("a", 1, square(0, 0)), ("b", 2, square(20, 0)), ("b", 3, square(30, 0)), ("c", 4, square(1000, 0))]


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("batch_rows", [1, 3, 7, 1000])
def test_a_cell_may_have_several_nuclei(tmp_path, monkeypatch, labelled, batch_rows):
    """Early builds of 2.0 have no label; there a polygon ends where it closes."""
    monkeypatch.setattr("nuclass_pipeline.data.xenium.columns.BATCH_ROWS", batch_rows)
    table = rows(TWO_NUCLEI)
    (table if labelled else table.drop(columns="label_id")).to_parquet(tmp_path / "nucleus_boundaries.parquet")
    found = read_outlines(tmp_path, "nucleus", *EVERYWHERE)
    assert [cell for cell, _ in found] == ["a", "b", "b", "c"]
    assert [polygon.tolist() for _, polygon in found] == [[list(vertex) for vertex in vertices] for _, _, vertices in TWO_NUCLEI]


def test_ids_may_be_bytes_or_integers(tmp_path):
    table = rows([(7, 1, square(0, 0)), (12, 2, square(9, 9))])
    table.to_parquet(tmp_path / "cell_boundaries.parquet")
    assert [cell for cell, _ in read_outlines(tmp_path, "cell", *EVERYWHERE)] == ["7", "12"]
    table["cell_id"] = [b"x-1"] * 5 + [b"y-1"] * 5
    table.to_parquet(tmp_path / "cell_boundaries.parquet")
    assert pq.read_schema(tmp_path / "cell_boundaries.parquet").field("cell_id").type == pa.binary()
    assert [cell for cell, _ in read_outlines(tmp_path, "cell", *EVERYWHERE)] == ["x-1", "y-1"]


@settings(max_examples=60, deadline=None)
@given(st.tuples(st.floats(-50, 450), st.floats(-50, 450)), st.floats(1, 300))
def test_a_window_gives_what_has_a_vertex_in_it(tmp_path_factory, corner, side):
    rng = np.random.default_rng(0)
    polygons = [(f"c{n}", n, square(*rng.uniform(0, 400, 2), rng.uniform(1, 90))) for n in range(60)]
    folder = tmp_path_factory.mktemp("window")
    rows(polygons).to_parquet(folder / "nucleus_boundaries.parquet")
    low, high = np.array(corner), np.array(corner) + side
    expected = [name for name, _, xy in polygons if ((np.array(xy) >= low) & (np.array(xy) < high)).all(axis=1).any()]
    assert [cell for cell, _ in read_outlines(folder, "nucleus", tuple(low), tuple(high))] == expected


def test_a_bundle_without_outlines_has_none(tmp_path):
    assert read_outlines(tmp_path, "nucleus", *EVERYWHERE) is None
    rows([]).astype({"cell_id": str, "vertex_x": float, "vertex_y": float, "label_id": float}).to_parquet(
        tmp_path / "nucleus_boundaries.parquet"
    )
    assert read_outlines(tmp_path, "nucleus", *EVERYWHERE) == []


SOUND = rows(TWO_NUCLEI)
BROKEN = {
    "no ids": (SOUND.drop(columns="cell_id"), "cell_id", "the column is missing"),
    "no x": (SOUND.rename(columns={"vertex_x": "x"}), "vertex_x", "the column is missing"),
    "an empty id": (SOUND.assign(cell_id=SOUND["cell_id"].where(SOUND.index != 3)), "cell_id", "is empty in a row"),
    "NaN": (SOUND.assign(vertex_y=SOUND["vertex_y"].where(SOUND.index != 3)), "vertex_y", "nan is not a finite number"),
    "infinite": (SOUND.assign(vertex_x=SOUND["vertex_x"].where(SOUND.index != 3, np.inf)), "vertex_x", "inf is not a finite number"),
    "text": (SOUND.astype({"vertex_x": str}).replace({"vertex_x": {"20.0": "far"}}), "vertex_x", "is not a number"),
    "not closed": (SOUND.drop(index=4), "vertex_x", "the outline of cell a is not closed"),
    "a line": (SOUND.drop(index=[1, 2, 3]), "vertex_x", "the outline of cell a is not closed"),
}


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_table_is_one_line(tmp_path, case, suffix):
    table, field, problem = BROKEN[case]
    if suffix == ".csv" and case == "NaN":
        problem = "is not a number"
    path = tmp_path / f"nucleus_boundaries{suffix}"
    table.to_parquet(path) if suffix == ".parquet" else table.to_csv(path, index=False)
    with pytest.raises(UserError) as refusal:
        read_outlines(tmp_path, "nucleus", *EVERYWHERE)
    assert (refusal.value.file, refusal.value.field) == (str(path), field)
    assert problem in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"PAR1 and no more", bytes(range(256))])
def test_a_file_that_is_not_parquet_is_one_line(tmp_path, content):
    (tmp_path / "cell_boundaries.parquet").write_bytes(content)
    with pytest.raises(UserError, match=r"cell_boundaries\.parquet: file: not a readable Parquet file"):
        read_outlines(tmp_path, "cell", *EVERYWHERE)
