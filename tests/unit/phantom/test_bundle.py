"""Tables and matrix of a bundle: genuine columns and consistent counts."""

import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy.sparse import csc_matrix

TABLES = ("cells", "transcripts", "cell_boundaries", "nucleus_boundaries")


@pytest.mark.parametrize("name", TABLES)
def test_columns_and_types_are_those_of_a_real_bundle(slides, real_bundle, name):
    real = pq.read_schema(real_bundle / f"{name}.parquet")
    ours = pq.read_schema(slides["lung"].outs / f"{name}.parquet")
    assert [(field.name, field.type) for field in ours] == [(field.name, field.type) for field in real]


def test_matrix_file_has_the_layout_of_a_real_one(slides, real_bundle):
    def layout(path: Path) -> dict[str, str]:
        found: dict[str, str] = {}
        with h5py.File(path) as file:
            file.visititems(lambda name, item: found.update({name: item.dtype.kind}) if isinstance(item, h5py.Dataset) else None)
            return found | {key: str(np.asarray(value).dtype.kind) for key, value in file.attrs.items()}

    assert layout(slides["lung"].outs / "cell_feature_matrix.h5") == layout(real_bundle / "cell_feature_matrix.h5")


def test_counts_follow_from_the_transcripts(slide):
    cells, drawn, matrix = slide.table("cells"), slide.table("transcripts"), slide.matrix
    with h5py.File(slide.outs / "cell_feature_matrix.h5") as file:
        names = file["matrix/features/name"][:].astype(str)
        kinds = file["matrix/features/feature_type"][:].astype(str)
    counted = drawn[(drawn["qv"] >= 20) & (drawn["cell_id"] != "UNASSIGNED")]
    rows = pd.Index(names).get_indexer(counted["feature_name"])
    columns = pd.Index(cells["cell_id"]).get_indexer(counted["cell_id"])
    assert (rows >= 0).all() and (columns >= 0).all()
    again = csc_matrix((np.ones(len(rows), dtype=int), (rows, columns)), shape=matrix.shape)
    assert (again != matrix).nnz == 0
    per_cell = counted[counted["is_gene"]].groupby("cell_id").size().reindex(cells["cell_id"], fill_value=0)
    assert (per_cell.to_numpy() == cells["transcript_counts"]).all()
    assert (np.asarray(matrix.sum(0)).ravel() == cells["total_counts"]).all()
    assert list(dict.fromkeys(kinds))[:3] == ["Gene Expression", "Negative Control Probe", "Negative Control Codeword"]
    assert (kinds == "Gene Expression").sum() == 469


def test_ids_agree_across_files(slide):
    cells = slide.table("cells")
    with h5py.File(slide.outs / "cell_feature_matrix.h5") as file:
        assert (file["matrix/barcodes"][:].astype(str) == cells["cell_id"]).all()
    assert (slide.truth["cell_id"] == cells["cell_id"]).all()
    assert cells["cell_id"].str.fullmatch("[a-p]{8}-1").all() and cells["cell_id"].is_monotonic_increasing and cells["cell_id"].is_unique
    assert (slide.table("cell_boundaries")["cell_id"].unique() == cells["cell_id"]).all()
    assert (slide.table("nucleus_boundaries")["cell_id"].unique() == cells["cell_id"][cells["nucleus_count"] == 1]).all()
    assert set(slide.table("transcripts")["cell_id"]) <= {*cells["cell_id"], "UNASSIGNED"}
    assert (cells["nucleus_area"].isna() == (cells["nucleus_count"] == 0)).all()
    assert (cells["nucleus_count"] == 0).mean() < 0.02
    assert json.loads((slide.outs / "experiment.xenium").read_text())["num_cells"] == len(cells)
