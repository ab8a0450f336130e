"""A column about cells is read from the tables of common programs, as they write them."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import split_column
from nuclass_pipeline.io.cell_columns import find_cell_columns, read_cell_column, read_obs_column

USUAL = ("label", "group", "cell_type")
EXPECTED = {"aaaa-1": "CD8+ T cells", "bbbb-1": "", "cccc-1": "B-cell"}
SEURAT = """"","orig.ident","nCount_RNA","seurat_clusters","cell_type"
"aaaa-1","s",120,"0","CD8+ T cells"
"bbbb-1","s",80,"1",NA
"cccc-1","s",95,"0","B-cell"
"""
PANDAS = """,n_counts,cell_type
aaaa-1,120.0,CD8+ T cells
bbbb-1,80.0,
cccc-1,95.0,B-cell
"""
EXPLORER = """#Exported cell groups
#Slide: a, b; c
cell_id,group,color
aaaa-1,CD8+ T cells,#1f77b4
bbbb-1,,#ff7f0e
cccc-1,B-cell,#2ca02c
"""
FORMS = {
    "Seurat": SEURAT,
    "pandas": PANDAS,
    "Explorer": EXPLORER,
    "semicolons": PANDAS.replace(",", ";"),
    "tabs": PANDAS.replace(",", "\t"),
    "byte-order mark": "\ufeff" + SEURAT,
    "ids in a further column": "\n".join(
        [",cell_id,cell_type", *(f"{row},{cell},{name}" for row, (cell, name) in enumerate(EXPECTED.items()))]
    ),
    "R with a point": SEURAT.replace("cell_type", "cell.type"),
}


@pytest.mark.parametrize("form", FORMS)
def test_labels_are_read_as_programs_write_them(tmp_path, form):
    path = tmp_path / "mine.csv"
    path.write_text(FORMS[form], encoding="utf-8")
    identity, rows = read_cell_column(path, USUAL)
    assert (identity, dict(rows)) == ("cell_id", EXPECTED)


def annotated(path, obs):
    ad.AnnData(np.zeros((len(obs), 1), np.float32), obs, pd.DataFrame(index=["CD3E"])).write_h5ad(path)
    return path


@pytest.mark.parametrize("kind", ["category", object])
def test_labels_of_an_anndata_file_are_read_without_its_counts(tmp_path, kind):
    named = pd.Series({cell: name or None for cell, name in EXPECTED.items()}).astype(kind)
    path = annotated(tmp_path / "mine.h5ad", pd.DataFrame({"cell_type": named, "leiden": ["0", "1", "0"]}))
    assert dict(read_cell_column(path, USUAL)[1]) == EXPECTED
    assert dict(read_cell_column(path, USUAL, "leiden")[1]) == dict(zip(EXPECTED, "010", strict=True))


def test_ids_may_be_in_a_column_of_an_anndata_file(tmp_path):
    """As spatialdata writes Xenium: the cells are numbered, and a column has their ids."""
    obs = pd.DataFrame({"cell_id": list(EXPECTED), "label": [3.0, 4.0, np.nan]}, index=["0", "1", "2"])
    identity, rows = read_cell_column(annotated(tmp_path / "mine.h5ad", obs), USUAL)
    assert (identity, rows) == ("cell_id", list(zip(EXPECTED, ["3", "4", ""], strict=True)))


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"barcode": ["x", "x", "y"]}, ["a", "b", "c"]),
        ({"barcode": ["x", None, "y"]}, ["a", "b", "c"]),
        ({"barcode": ["x", "z", "y"]}, ["x", "z", "y"]),
        ({"barcode": ["x", "z", "y"], "cell_id": ["1", "2", "3"]}, ["1", "2", "3"]),
    ],
)
def test_a_column_of_ids_names_each_cell_once(tmp_path, columns, expected):
    """Joined tables repeat barcodes, and their rows have names of their own."""
    path = annotated(tmp_path / "mine.h5ad", pd.DataFrame({**columns, "label": "x"}, index=["a", "b", "c"]))
    assert [cell for cell, _ in read_cell_column(path, USUAL)[1]] == expected


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_numbers_and_blanks_of_an_anndata_file_are_text_as_in_a_table(tmp_path, kind):
    obs = pd.DataFrame({"label": ["Tip cells ", "None", "null"], "n": np.array([1, 2, np.nan], kind)}, index=["a", "b", "c"])
    path = annotated(tmp_path / "mine.h5ad", obs)
    assert read_obs_column(path, USUAL) == ["Tip cells", "", ""]
    assert read_obs_column(path, USUAL, "n") == ["1", "2", ""]


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        (
            "cell_id,label,group\na,x,y\n",
            None,
            "label | group | cell_type: the columns label and group may both be meant; found cell_id, label",
        ),
        ("cell_id,kind\na,x\n", None, "no such column; found cell_id, kind. Name the column, as "),
        ("cell_id,kind\na,x\n", "knd", "mine.csv: knd: no such column; found cell_id, kind, did you mean 'kind'?"),
        ("id,label\na,x\n", None, "cell_id | barcode: no such column; found id, label. Add one of these columns."),
        (",label\na,x\na,y\n", None, "cell_id: 'a' occurs twice. Keep one row per cell."),
        ("", None, "header: the file is empty. Write the names of the columns in its first line: cell_id, label."),
        ("#only\n#comments\n", None, "header: the file is empty."),
        ("#a comment\ncell_id,label\na,x,y,z\n", None, "line 3, row: has 4 values for 2 columns"),
    ],
)
def test_other_tables_are_refused_in_one_line(tmp_path, text, column, message):
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_cell_column(path, USUAL, column)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_that_is_too_large_is_refused_with_what_to_keep(tmp_path, monkeypatch):
    monkeypatch.setattr("nuclass_pipeline.io.cell_columns.MAX_LABELS_MB", 0)
    (tmp_path / "mine.csv").write_text("cell_id,label,further\na,x,1\n")
    with pytest.raises(UserError, match=r"mine\.csv: file: it is larger than 0 MB\. Keep only these columns: cell_id, label\."):
        read_cell_column(tmp_path / "mine.csv", USUAL)


def test_what_is_no_anndata_file_is_refused(tmp_path):
    (tmp_path / "text.h5ad").write_text("cell_id,label\n")
    with pytest.raises(UserError, match=r"text\.h5ad: file: not a readable HDF5 file"):
        read_cell_column(tmp_path / "text.h5ad", USUAL)
    path = annotated(tmp_path / "mine.h5ad", pd.DataFrame({"kind": ["x"]}, index=["a"]))
    with pytest.raises(
        UserError, match=r"label \| group \| cell_type: no such column; found cell_id, kind\. Name the column, as .*mine\.h5ad::COLUMN"
    ):
        read_cell_column(path, USUAL)


def test_a_column_of_a_table_is_named_after_two_colons(tmp_path):
    assert split_column("a/b.csv::Cell type") == ("a/b.csv", "Cell type")
    assert split_column("a/b.csv") == ("a/b.csv", None)
    (tmp_path / "odd::name.csv").touch()
    assert split_column(f"{tmp_path}/odd::name.csv") == (f"{tmp_path}/odd::name.csv", None)
    assert find_cell_columns(tmp_path, ("cell_id", "a b"), USUAL, "a b") == ("cell_id", "a b")
