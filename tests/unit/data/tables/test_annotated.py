"""Counts of AnnData files, wherever in them they are."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from nuclass_pipeline.data.tables.annotated import read_annotated, read_in_memory
from nuclass_pipeline.errors import UserError
from tests.unit.data.tables.formats import CELLS, COUNTS, GENES, IDS, PLACES, annotated

LOGGED = np.log1p(COUNTS)


def with_raw():
    """Normalised values of two genes, and the counts of all in `raw`."""
    whole = annotated(COUNTS)
    table = annotated(LOGGED)[:, :2].copy()
    table.raw = whole
    return table


FORMS = {
    "X": (lambda: annotated(), []),
    "dense X": (lambda: annotated_dense(), []),
    "layer": (lambda: annotated(LOGGED, layers={"counts": sparse.csr_matrix(COUNTS)}), ["layers/counts"]),
    "raw": (with_raw, ["raw/X"]),
}


def annotated_dense():
    table = annotated()
    table.X = table.X.toarray()
    return table


@pytest.fixture(params=["file", "memory"])
def read(request, tmp_path):
    """Return a function that reads an AnnData object from a file or from memory."""

    def run(table):
        if request.param == "memory":
            return read_in_memory(table)
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
    assert found.xy_um.tolist() == PLACES.tolist()
    assert found.warnings == [f"the counts are those of {place}, because X holds none" for place in places]


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
def test_coordinates_may_be_columns(read, columns, unit):
    found = read(annotated(obs=pd.DataFrame(PLACES, CELLS, columns), obsm={}))
    np.testing.assert_allclose(found.xy_um, PLACES * unit)


def test_cells_need_no_coordinates(read):
    assert read(annotated(obsm={})).xy_um is None


def test_normalised_values_are_refused_in_one_line(read):
    with pytest.raises(UserError) as caught:
        read(annotated(LOGGED, layers={"counts": sparse.csr_matrix(COUNTS / 2)}))
    message = str(caught.value)
    assert "a" in message
    assert (
        "no counts in X, layers['counts'] or raw: X holds 1.38629, which is not a count; layers/counts holds 1.5, which is not" in message
    )
    assert "\n" not in message


def test_missing_coordinates_of_a_cell_are_refused(read):
    with pytest.raises(UserError, match=r"obsm\['spatial'\]: cell 'bbbb-1' has no coordinates"):
        read(annotated(obsm={"spatial": np.array([[1, 1], [np.nan, 1], [1, 1]])}))
