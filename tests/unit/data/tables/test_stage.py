"""Cells and counts are the same from every layout, and what is left out is said."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from nuclass_pipeline.data.tables.stage import read_tables
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_table, read_warnings
from nuclass_pipeline.schemas import ANY_CELLS, CELLS
from tests.unit.data.tables import formats
from tests.unit.data.tables.formats import COUNTS, GENES, IDS, PLACES

NO_PLACES = "no coordinates: spatial domains and the map of the tissue are left out"


@pytest.fixture
def read(tmp_path):
    """Return a function that reads an input: the table of cells, the counts, and the warnings."""

    def run(source, places=None):
        files = {"cells": tmp_path / "out/cells.parquet", "counts": tmp_path / "out/counts.h5ad"}
        read_tables(source=source, places=places, **files)
        return read_table(files["cells"], ANY_CELLS), ad.read_h5ad(files["counts"]), read_warnings(files["cells"])

    return run


def check(found, ids=formats.CELLS, places=PLACES):
    cells, counts, _ = found
    assert list(cells["cell_id"]) == list(counts.obs_names) == list(ids)
    assert list(counts.var_names) == GENES
    assert (counts.X.toarray() == COUNTS).all()
    assert list(cells["transcripts"]) == COUNTS.sum(axis=1).tolist()
    if places is None:
        assert cells[["x_um", "y_um"]].isna().all(axis=None)
        assert "spatial" not in counts.obsm
    else:
        CELLS.check(cells, "cells")
        np.testing.assert_allclose(cells[["x_um", "y_um"]], places)
        np.testing.assert_allclose(counts.obsm["spatial"], places)


@pytest.mark.parametrize(("ending", "features"), [(".gz", "features.tsv"), ("", "genes.tsv"), ("", "features.tsv")])
def test_a_10x_folder_is_read(tmp_path, read, ending, features):
    found = read(formats.write_mtx(tmp_path / "m", ending, features), formats.write_cells(tmp_path / "my_cells.csv"))
    check(found)
    assert list(found[1].var["id"]) == IDS
    assert list(found[0]["controls"]) == [1, 0, 2]
    assert list(found[0]["cell_area_um2"]) == [50, 60, 70]
    assert found[2] == ["1 features that are not genes are left out: NegControlProbe_1"]


def test_cells_beside_a_10x_matrix_are_found(tmp_path, read):
    folder = formats.write_mtx(tmp_path / "m")
    check(read(folder), places=None)
    assert NO_PLACES in read(folder)[2]
    formats.write_cells(tmp_path / "cells.csv.gz")
    check(read(folder))
    check(read(formats.write_h5(tmp_path / "cell_feature_matrix.h5")))


def test_a_10x_file_is_read(tmp_path, read):
    found = read(formats.write_h5(tmp_path / "m.h5"), formats.write_cells(tmp_path / "c.csv", "x", "y", "barcode", "\t"))
    check(found)
    assert list(found[1].var["id"]) == IDS
    assert not found[2]


@pytest.mark.parametrize(("ending", "separator"), [(".csv", ","), (".csv.gz", ","), (".tsv", "\t"), (".csv", ";")])
def test_a_table_of_counts_is_read(tmp_path, read, ending, separator):
    pd.DataFrame(COUNTS, formats.CELLS, GENES).to_csv(tmp_path / f"counts{ending}", sep=separator)
    check(read(tmp_path / f"counts{ending}", formats.write_cells(tmp_path / "my.csv")))
    check(read(tmp_path / f"counts{ending}"), places=None)


def test_numbers_as_ids_stay_text(tmp_path, read):
    frame = pd.DataFrame(COUNTS, ["007", "12345678901234567890", "1e5"], GENES)
    frame.to_csv(tmp_path / "counts.csv")
    check(read(tmp_path / "counts.csv"), ids=frame.index, places=None)


@pytest.mark.parametrize(("ending", "further"), [("", ()), (".gz", ()), ("", ("cell",))])
def test_cosmx_is_read(tmp_path, read, ending, further):
    folder = formats.write_cosmx(tmp_path / "run", ending, further)
    for source in (folder, folder / f"Run1_exprMat_file.csv{ending}"):
        found = read(source)
        check(found, formats.COSMX_IDS)
        np.testing.assert_allclose(found[0]["cell_area_um2"], np.array([3000, 2000, 1000]) * 0.12028**2)
        assert list(found[0]["controls"]) == [1, 2, 0]
        assert found[2] == [
            "1 rows of transcripts outside of cells (cell_ID 0) are left out",
            "1 cells of Run1_exprMat_file.csv are not in Run1_metadata_file.csv and are left out".replace(".csv", f".csv{ending}"),
            "2 features that are not genes are left out: NegPrb1, SystemControl10",
        ]


def test_the_named_cosmx_run_of_a_folder_is_read_with_its_own_cells(tmp_path, read):
    folder = formats.write_cosmx(tmp_path / "run")
    for kind in ("exprMat", "metadata"):
        (folder / f"Run2_{kind}_file.csv").write_text("of another run")
    cells = pd.read_csv(folder / "Run1_metadata_file.csv")
    cells.assign(cell_id=[f"c_1_{i}" for i in range(3)]).to_csv(folder / "Run1_metadata_file.csv", index=False)
    check(read(folder / "Run1_exprMat_file.csv"), formats.COSMX_IDS)


def test_the_named_merscope_table_of_a_folder_is_read(tmp_path, read):
    folder, ids = formats.write_merscope(tmp_path / "run")
    (folder / "cell_by_gene_2.csv").write_text("of another run")
    check(read(folder / "cell_by_gene.csv"), ids)


def test_the_commonest_separator_of_the_header_is_taken(tmp_path, read):
    (tmp_path / "c.csv").write_text("cell_id,CD3E,HLA-A;HLA-B\na,1,2\n")
    assert list(read(tmp_path / "c.csv")[1].var_names) == ["CD3E", "HLA-A;HLA-B"]


def test_cosmx_without_metadata_has_no_places(tmp_path, read):
    folder = formats.write_cosmx(tmp_path / "run")
    (folder / "Run1_metadata_file.csv").unlink()
    cells, _, warnings = read(folder)
    assert len(cells) == 4
    assert NO_PLACES in warnings


def test_merscope_is_read(tmp_path, read):
    folder, ids = formats.write_merscope(tmp_path / "run")
    for source in (folder, folder / "cell_by_gene.csv"):
        found = read(source)
        check(found, ids)
        assert list(found[0]["controls"]) == [0, 3, 0]
        assert found[2] == ["1 features that are not genes are left out: Blank-1"]


def test_genes_of_one_name_are_summed(tmp_path, read):
    table = formats.annotated()
    table.var_names = ["CD3E", "CD3E", "EPCAM", "DCN"]
    table.write_h5ad(tmp_path / "a.h5ad")
    _, counts, warnings = read(tmp_path / "a.h5ad")
    assert counts.X.toarray()[:, 0].tolist() == [3, 2, 2]
    assert warnings == ["1 gene names occur twice and are summed: CD3E"]


def text(name, content):
    return lambda folder: (folder / name).write_text(content)


def without(writer, name, content=None):
    """Return what writes an input and then removes or replaces one of its files."""

    def run(folder):
        (writer(folder / "in")[0] if writer is formats.write_merscope else writer(folder / "in"))
        (folder / "in" / name).unlink()
        if content is not None:
            (folder / "in" / name).write_bytes(content)

    return run


REFUSED = {
    "empty CSV": ("c.csv", text("c.csv", ""), "c.csv: rows: there are none."),
    "CSV without rows": ("c.csv", text("c.csv", "cell_id,CD3E\n"), "c.csv: rows: there are none."),
    "text in a CSV": ("c.csv", text("c.csv", "cell_id,CD3E\na,x\n"), "c.csv: CD3E: 'x' is not a count. Use a table of counts"),
    "empty value in a CSV": ("c.csv", text("c.csv", "cell_id,CD3E\na,\nb,1\n"), "c.csv: CD3E: 'nan' is not a count."),
    "normalised CSV": ("c.csv", text("c.csv", "cell_id,CD3E\na,0.5\n"), "c.csv: counts: 0.5 is not a count. Use raw counts,"),
    "negative CSV": ("c.csv", text("c.csv", "cell_id,CD3E\na,-1\n"), "c.csv: counts: -1 is not a count."),
    "cell twice": ("c.csv", text("c.csv", "cell_id,CD3E\na,1\na,2\n"), "c.csv: cell_id: 'a' occurs twice."),
    "gene twice": ("c.csv", text("c.csv", "cell_id,CD3E,CD3E\na,1,1\n"), "c.csv: CD3E: the column occurs twice."),
    "ragged CSV": ("c.csv", text("c.csv", "cell_id,CD3E\na,1\nb,1,2\n"), "c.csv: file: cannot be read ("),
    "column about cells": ("c.csv", text("c.csv", "cell_id,CD3E,nCount_RNA\na,1,3\n"), "c.csv: nCount_RNA: the column is about the cells,"),
    "column of sums": (
        "c.csv",
        lambda folder: pd.DataFrame(np.arange(120).reshape(10, 12)).assign(all=lambda table: table.sum(axis=1)).to_csv(folder / "c.csv"),
        "c.csv: all: the column is about the cells, not a gene. Remove it from the table of counts.",
    ),
    "yes and no": ("c.csv", text("c.csv", "cell_id,CD3E\na,True\n"), "c.csv: CD3E: is bool, not counts."),
    "separator at the end": ("c.csv", text("c.csv", "cell_id,CD3E,\na,1,\n"), "c.csv: gene 2, which has no name: 'nan' is not a count."),
    "no genes": ("c.csv", text("c.csv", "cell_id\na\n"), "c.csv: counts: there are 1 cells and 0 genes."),
    "all zero": ("c.csv", text("c.csv", "cell_id,CD3E\na,0\n"), "c.csv: counts: they are all zero."),
    "controls alone": ("c.csv", text("c.csv", "cell_id,Blank-1\na,1\n"), "c.csv: features: none of them is a gene."),
    "no h5ad": ("c.h5ad", text("c.h5ad", "x"), "c.h5ad: file: not a readable HDF5 file"),
    "no 10x file": (
        "c.h5",
        lambda folder: formats.annotated().write_h5ad(folder / "c.h5"),
        "c.h5: matrix: the file has none, so it is not",
    ),
    "mtx without barcodes": ("in", without(formats.write_mtx, "barcodes.tsv.gz"), "in: barcodes.tsv: no such file, gzipped or not."),
    "broken mtx": ("in", without(formats.write_mtx, "matrix.mtx.gz", b"x"), "in: file: the matrix cannot be read ("),
    "other barcodes": ("in", without(formats.write_mtx, "barcodes.tsv.gz", b""), "in: file: the matrix cannot be read ("),
    "CosMx without fov": (
        "in",
        without(formats.write_cosmx, "Run1_exprMat_file.csv", b"cell,CD3E\na,1\n"),
        "Run1_exprMat_file.csv: fov, cell_ID: the first columns are cell.",
    ),
    "CosMx metadata without places": (
        "in",
        without(formats.write_cosmx, "Run1_metadata_file.csv", b"fov,cell_ID\n1,1\n"),
        "Run1_metadata_file.csv: CenterX_global_px: no such column; found fov, cell_ID.",
    ),
    "CosMx metadata of another run": (
        "in",
        without(formats.write_cosmx, "Run1_metadata_file.csv", b"fov,cell_ID,CenterX_global_px,CenterY_global_px\n7,7,1,1\n"),
        "Run1_metadata_file.csv: cell_id: none of its 1 cells is in Run1_exprMat_file.csv; here '7_7', there '1_1'.",
    ),
    "CosMx metadata of another name": (
        "in",
        lambda folder: (formats.write_cosmx(folder / "in") / "Run1_metadata_file.csv").rename(folder / "in/Run2_metadata_file.csv"),
        "in: Run1_metadata_file.csv: no such file beside Run1_exprMat_file.csv; found Run2_metadata_file.csv. Give both",
    ),
    "two CosMx runs": (
        "in",
        lambda folder: (formats.write_cosmx(folder / "in") / "Run2_exprMat_file.csv").write_text("x"),
        "in: *_exprMat_file.csv*: 2 files fit: Run1_exprMat_file.csv, Run2_exprMat_file.csv.",
    ),
    "MERSCOPE place that is empty": (
        "in",
        without(formats.write_merscope, "cell_metadata.csv", b",center_x,center_y\n1234567890123456780,1,\n"),
        "cell_metadata.csv: center_x, center_y: 1, nan of cell '1234567890123456780' are not coordinates.",
    ),
    "unknown folder": ("in", lambda folder: (folder / "in").mkdir(), "in: input: holds neither experiment.xenium nor one of matrix.mtx"),
    "unknown file": ("c.doc", text("c.doc", "x"), "c.doc: input: is a file of none of the kinds .h5ad, .h5, .csv, .csv.gz"),
    "gone": ("gone.csv", lambda folder: None, "gone.csv: file: it does not exist."),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_broken_input_is_refused_in_one_line(tmp_path, read, case):
    name, write, message = REFUSED[case]
    write(tmp_path)
    with pytest.raises(UserError) as caught:
        read(tmp_path / name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,x,y\na,1,2\n", "c.csv: cell_id: no such column; found id, x, y. Name the column of the ids cell_id."),
        ("cell_id,px,py\na,1,2\n", "c.csv: x_um, y_um: no such columns; found cell_id, px, py. Name two of the columns x_um and y_um,"),
        ("cell_id,x,y\nother,1,2\n", "c.csv: cell_id: none of its 1 cells is in m; here 'other', there 'aaaa-1'."),
        ("cell_id,x,y\naaaa-1,1,2\naaaa-1,1,2\n", "c.csv: cell_id: 'aaaa-1' occurs twice."),
        ("cell_id,x,y\naaaa-1,left,2\n", "c.csv: x, y: left, 2 of cell 'aaaa-1' are not coordinates."),
        ("", "c.csv: file: cannot be read ("),
    ],
)
def test_a_broken_table_of_cells_is_refused_in_one_line(tmp_path, read, content, message):
    (tmp_path / "c.csv").write_text(content)
    with pytest.raises(UserError) as caught:
        read(formats.write_mtx(tmp_path / "m"), tmp_path / "c.csv")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_cells_without_coordinates_are_left_out_and_counted(tmp_path, read):
    (tmp_path / "c.csv").write_text("cell_id,x,y\ncccc-1,1,22.5\nother,5,5\n")
    cells, _, warnings = read(formats.write_mtx(tmp_path / "m"), tmp_path / "c.csv")
    assert list(cells["cell_id"]) == ["cccc-1"]
    assert warnings[:2] == ["2 cells of m are not in c.csv and are left out", "1 cells of c.csv are not in m"]
