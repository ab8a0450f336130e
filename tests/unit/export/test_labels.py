"""The labels of a slide as CSV and AnnData."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.export.labels import export_labels
from nuclass_pipeline.io import write_table
from nuclass_pipeline.schemas import CELLS, CLUSTERS, DOMAINS, LABEL_EXPORT, empty_labels

CELLS_OF = ["a-1", "=b", "c-1"]
COUNTS = np.array([[3, 0], [0, 2], [1, 1]])
TEXT = """cell_id,x_um,y_um,label,cl_id,lineage,confidence,cluster,domain,reason
a-1,1.5,10.0,T_Cell,CL:0000084,Lymphoid,0.9,10,0,
'=b,2.5,20.0,Unresolved,,Myeloid,0.25,2,,conflicting lineages
c-1,3.5,30.0,B_Cell,CL:0000236,Lymphoid,1.0,,1,
"""


@pytest.fixture
def tables(tmp_path):
    """Return the inputs of the stage, the tables in another order than the counts."""
    files = {name: tmp_path / f"{name}.parquet" for name in ("cells", "clusters", "domains", "labels")}
    ad.AnnData(sparse.csr_matrix(COUNTS, dtype=np.float32), pd.DataFrame(index=CELLS_OF), pd.DataFrame(index=["CD3E", "CD19"])).write_h5ad(
        tmp_path / "counts.h5ad"
    )
    places = pd.DataFrame({"cell_id": CELLS_OF, "x_um": [1.5, 2.5, 3.5], "y_um": [10.0, 20.0, 30.0], "transcripts": 2, "controls": 0})
    missing = dict.fromkeys(("cell_area_um2", "nucleus_area_um2", "nucleus_transcripts"), np.nan)
    write_table(places.assign(**missing)[::-1], files["cells"], CELLS)
    groups = {"cell_id": CELLS_OF, "cluster": ["10", "2", None], "umap_1": [0.5, 1.5, np.nan], "umap_2": [1.0, 2.0, np.nan]}
    write_table(pd.DataFrame(groups)[::-1], files["clusters"], CLUSTERS)
    write_table(pd.DataFrame({"cell_id": CELLS_OF, "domain": ["0", None, "1"]}), files["domains"], DOMAINS)
    labels = empty_labels(CELLS_OF).assign(label=["T_Cell", "Unresolved", "B_Cell"], lineage=["Lymphoid", "Myeloid", "Lymphoid"])
    labels = labels.assign(confidence=[0.9, 0.25, 1.0], cluster=["10", "2", None], reason=[None, "conflicting lineages", None])
    labels.to_parquet(files["labels"])
    return {"counts": tmp_path / "counts.h5ad", **files}


def run(tables, folder):
    outputs = {"labels_csv": folder / "labels.csv", "labels_h5ad": folder / "labels.h5ad"}
    export_labels(**tables, run="r", slide="s", organ="lung", **outputs)
    return outputs


def test_the_csv_has_a_row_per_cell_and_no_formula(tables, tmp_path):
    assert run(tables, tmp_path / "out")["labels_csv"].read_text() == TEXT
    assert TEXT.splitlines()[0].split(",") == [column.name for column in LABEL_EXPORT.columns]


def test_the_anndata_has_raw_counts_places_and_the_map(tables, tmp_path):
    found = ad.read_h5ad(run(tables, tmp_path)["labels_h5ad"])
    assert list(found.obs_names) == CELLS_OF
    assert (found.X.toarray() == COUNTS).all()
    assert found.obsm["spatial"].tolist() == [[1.5, 10.0], [2.5, 20.0], [3.5, 30.0]]
    assert np.array_equal(found.obsm["X_umap"], [[0.5, 1.0], [1.5, 2.0], [np.nan, np.nan]], equal_nan=True)
    assert list(found.obs["label"].cat.categories) == ["B_Cell", "T_Cell", "Unresolved"]
    assert list(found.obs["cluster"].cat.categories) == ["2", "10"]
    assert found.obs["domain"].isna().tolist() == [False, True, False]
    assert {name: found.uns["nuclass"][name] for name in ("run", "slide", "organ")} == {"run": "r", "slide": "s", "organ": "lung"}


def test_the_same_tables_give_the_same_bytes(tables, tmp_path):
    first, second = (run(tables, tmp_path / name) for name in "ab")
    assert all(first[name].read_bytes() == second[name].read_bytes() for name in first)


def test_tables_of_another_slide_are_refused_and_nothing_is_written(tables, tmp_path):
    pd.read_parquet(tables["domains"]).iloc[1:].to_parquet(tables["domains"])
    with pytest.raises(UserError, match=r"domains\.parquet: cell_id: cell 'a-1' has no row\. Remove the file and run again\."):
        run(tables, tmp_path / "out")
    assert not (tmp_path / "out").exists()
