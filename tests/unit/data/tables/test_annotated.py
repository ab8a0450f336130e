"""Counts of AnnData files, wherever in them they are."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from nuclass_pipeline.data.tables.annotated import read_annotated, read_in_memory
from nuclass_pipeline.data.tables.stage import read_tables
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io.cell_columns import read_cell_column
from tests.unit.data.tables.formats import CELLS, COUNTS, GENES, IDS, PLACES, annotated

LOGGED = np.log1p(COUNTS)


def with_raw(values=LOGGED):
    """Normalised values of two genes, and the counts of all in `raw`."""
    whole = annotated(COUNTS)
    table = annotated(values)[:, :2].copy()
    table.raw = whole
    return table


FORMS = {
    "X": (lambda: annotated(), []),
    "dense X": (lambda: annotated_dense(), []),
    "binary X": (lambda: annotated(COUNTS > 0, layers={"counts": sparse.csr_matrix(COUNTS)}), ["layers/counts"]),
    "empty layer": (lambda: annotated(layers={"counts": sparse.csr_matrix(COUNTS * 0)}), []),
    "empty X": (lambda: with_raw(COUNTS * 0), ["raw/X"]),
    "layer": (lambda: annotated(LOGGED, layers={"counts": sparse.csr_matrix(COUNTS)}), ["layers/counts"]),
    "raw": (with_raw, ["raw/X"]),
}


def annotated_dense():
    table = annotated()
    table.X = table.X.toarray()
    return table


@pytest.fixture(params=["file", "memory"])
def read(request, read_file):
    """Return a function that reads an AnnData object from a file or from memory."""

    return read_in_memory if request.param == "memory" else read_file


@pytest.fixture
def read_file(tmp_path):
    """Return a function that reads an AnnData object from a file."""

    def run(table):
        table.write_h5ad(tmp_path / "a.h5ad")
        return read_annotated(tmp_path / "a.h5ad")

    return run


@pytest.mark.parametrize("form", FORMS)
def test_counts_are_found(read, form):
    make, places = FORMS[form]
    found = read(make())
    assert (found.counts.toarray() == COUNTS).all()
    assert list(found.cell_ids) == CELLS
    assert list(found.features["name"]) == GENES
    # Not in memory, because labels of an object need none.
    assert found.xy_um is None or found.xy_um.tolist() == PLACES.tolist()
    assert found.warnings == [f"the counts are those of {place}, not of X" for place in places]


def test_symbols_are_taken_where_genes_are_named_by_ensembl(read):
    var = pd.DataFrame({"feature_name": pd.Categorical([*GENES[:3], None]), "feature_types": "Gene Expression"}, index=IDS)
    found = read(annotated(var=var))
    assert list(found.features["name"]) == [*GENES[:3], IDS[3]]
    assert list(found.features["id"]) == IDS


@pytest.mark.parametrize(
    ("columns", "unit"),
    [
        (("x_centroid", "y_centroid"), 1),
        (("x", "y"), 1),
        (("CenterX_global_px", "CenterY_global_px"), 0.12028),
        (("center_x", "center_y"), 1),
    ],
)
def test_coordinates_may_be_columns(read_file, columns, unit):
    found = read_file(annotated(obs=pd.DataFrame(PLACES, CELLS, columns), obsm={}))
    np.testing.assert_allclose(found.xy_um, PLACES * unit)


def test_cells_need_no_coordinates(read):
    assert read(annotated(obsm={})).xy_um is None


def test_normalised_values_are_refused_in_one_line(read):
    with pytest.raises(UserError) as caught:
        read(annotated(LOGGED, layers={"counts": sparse.csr_matrix(COUNTS / 2)}))
    message = str(caught.value)
    assert (
        "no counts in layers['counts'], X or raw: layers/counts holds 1.5, which is not a count; X holds 1.38629, which is not" in message
    )
    assert "\n" not in message


@pytest.mark.parametrize(
    ("spatial", "message"),
    [
        (np.array([[1, 1], [np.nan, 1], [1, 1]]), "obsm['spatial']: cell 'bbbb-1' has no coordinates"),
        (np.ones((3, 1)), "obsm['spatial']: it is an array of float64 of the shape (3, 1). Store x and y in two columns"),
    ],
)
def test_coordinates_that_are_none_are_refused_in_a_file_and_not_read_in_memory(read_file, spatial, message):
    table = annotated(obsm={"spatial": spatial})
    with pytest.raises(UserError) as caught:
        read_file(table)
    assert message in str(caught.value)
    assert read_in_memory(table).xy_um is None


def test_a_backed_object_is_read(tmp_path):
    annotated().write_h5ad(tmp_path / "a.h5ad")
    assert (read_in_memory(ad.read_h5ad(tmp_path / "a.h5ad", backed="r")).counts.toarray() == COUNTS).all()


def test_words_of_other_programs_for_genes_are_no_controls(tmp_path):
    """CELLxGENE has the biotype in `feature_type`; joined tables lack some `feature_types`; one is an antibody."""
    var = pd.DataFrame({"feature_type": "protein_coding", "feature_types": ["Gene Expression", np.nan, "gene", "Antibody Capture"]}, GENES)
    annotated(var=var).write_h5ad(tmp_path / "a.h5ad")
    read_tables(source=tmp_path / "a.h5ad", places=None, cells=tmp_path / "cells.parquet", counts=tmp_path / "counts.h5ad")
    assert list(ad.read_h5ad(tmp_path / "counts.h5ad").var_names) == GENES[:3]


def test_cells_have_the_ids_that_their_labels_have(read_file, tmp_path):
    """As spatialdata writes them: the rows are numbered."""
    obs = pd.DataFrame({"cell_id": CELLS, "label": "x"}, index=["0", "1", "2"])
    found = read_file(annotated(obs=obs))
    assert list(found.cell_ids) == CELLS == [cell for cell, _ in read_cell_column(tmp_path / "a.h5ad", ("label",))[1]]
    assert found.warnings == ["cells have the ids of a column of obs, such as 'aaaa-1', not the names of its rows, such as '0'"]
