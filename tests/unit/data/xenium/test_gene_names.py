"""Names of genes: Ensembl ids, two genes of one name, and what a spreadsheet made of names."""

import json

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from nuclass_pipeline.data.xenium.gene_names import genes_by_any_name, name_genes
from nuclass_pipeline.data.xenium.matrix import Matrix
from nuclass_pipeline.io import read_warnings
from tests.unit.data.xenium.test_mutations import COUNTS, make_bundle, read

SYMBOLS = ["CD3E", "MS4A1", "EPCAM", "C1orf112"]
IDS = [f"ENSG0000000000{i}" for i in range(4)]
CONTROL = ("NegControlProbe_00001", "NegControlProbe_00001", "Negative Control Probe")

ONLY = "; only a marker table with such names can label its cells"


def matrix_of(tmp_path, names, ids):
    rows = [*((i, name, "Gene Expression") for i, name in zip(ids, names, strict=True)), CONTROL]
    features = pd.DataFrame(rows, columns=["id", "name", "kind"])
    counts = sparse.csr_matrix(np.arange(2 * len(rows)).reshape(2, len(rows)))
    return Matrix(tmp_path / "cell_feature_matrix.h5", counts, np.array(["p", "q"]), features)


def write_panel(folder, genes):
    targets = [{"type": {"data": {"id": i, "name": name}, "descriptor": "gene"}} for i, name in genes.items()]
    targets.append({"type": {"data": {"name": "NegControlProbe_00001"}, "descriptor": "negative_control"}})
    (folder / "gene_panel.json").write_text(json.dumps({"payload": {"targets": targets}}))


def test_symbols_stay(tmp_path):
    matrix = matrix_of(tmp_path, SYMBOLS, IDS)
    found, warnings = name_genes(matrix, tmp_path)
    assert found.features.equals(matrix.features)
    assert found.counts is matrix.counts
    assert warnings == []


def test_names_and_ids_that_are_exchanged_are_put_right(tmp_path):
    found, warnings = name_genes(matrix_of(tmp_path, IDS, SYMBOLS), tmp_path)
    assert found.features["name"].tolist() == [*SYMBOLS, CONTROL[1]]
    assert found.features["id"].tolist() == [*IDS, CONTROL[0]]
    assert warnings == ["4 genes are named by Ensembl ids; their symbols are those of the bundle"]


@pytest.mark.parametrize("version", ["", ".12"])
def test_ids_get_the_symbols_of_the_panel_file(tmp_path, version):
    write_panel(tmp_path, dict(zip(IDS[:3], SYMBOLS[:3], strict=True)))
    names = [f"{name}{version}" for name in IDS]
    found, warnings = name_genes(matrix_of(tmp_path, names, names), tmp_path)
    assert found.features["name"].tolist() == [*SYMBOLS[:3], names[3], CONTROL[1]]
    assert found.features["id"].tolist() == [*names, CONTROL[0]]
    assert warnings == ["3 genes are named by Ensembl ids; their symbols are those of the bundle"]


@pytest.mark.parametrize("panel", [None, "{}", "[1]", "no JSON", '{"payload": {"targets": [{"type": null}]}}'])
def test_ids_without_symbols_stay_and_are_a_warning(tmp_path, panel):
    if panel:
        (tmp_path / "gene_panel.json").write_text(panel)
    found, warnings = name_genes(matrix_of(tmp_path, IDS, IDS), tmp_path)
    assert found.features["name"].tolist() == [*IDS, CONTROL[1]]
    assert warnings == [f"the gene names look like Ensembl ids without symbols in the bundle, such as {IDS[0]}{ONLY}"]


def test_names_of_a_mouse_are_a_warning(tmp_path):
    _, (warning,) = name_genes(matrix_of(tmp_path, ["Cd3e", "Ms4a1", "H2-Aa", "2010300C02Rik"], IDS), tmp_path)
    assert warning == "the gene names look like those of a mouse, such as Cd3e" + ONLY


def test_dates_are_a_warning(tmp_path):
    _, (warning,) = name_genes(matrix_of(tmp_path, ["CD3E", "2-Mar", "1-Sep", "DEC1"], IDS), tmp_path)
    assert warning == "2 gene names are dates, such as 2-Mar: a spreadsheet has changed them"


def test_genes_of_one_name_are_summed_in_the_order_of_the_first(tmp_path):
    found, warnings = name_genes(matrix_of(tmp_path, ["CD3E", "ACTB", "CD3E", "CD3E"], IDS), tmp_path)
    assert found.features["name"].tolist() == ["CD3E", "ACTB", CONTROL[1]]
    assert found.features["id"].tolist() == [";".join([IDS[0], *IDS[2:]]), IDS[1], CONTROL[0]]
    assert found.counts.toarray().tolist() == [[0 + 2 + 3, 1, 4], [5 + 7 + 8, 6, 9]]
    assert warnings == ["1 gene names occur twice and are summed: CD3E"]


def test_a_control_of_the_name_of_a_gene_is_not_summed(tmp_path):
    matrix = matrix_of(tmp_path, [CONTROL[1], "ACTB", "CD3E", "CD19"], IDS)
    assert name_genes(matrix, tmp_path)[0].counts is matrix.counts


def test_transcripts_may_name_a_gene_by_symbol_or_id(tmp_path):
    found, _ = name_genes(matrix_of(tmp_path, ["CD3E", "ACTB", "CD3E", "CD19"], IDS), tmp_path)
    assert genes_by_any_name(found.features) == {
        **{name: name for name in ("CD3E", "ACTB", "CD19")},
        **dict(zip(IDS, ["CD3E", "ACTB", "CD3E", "CD19"], strict=True)),
    }


@pytest.mark.parametrize("named", ["name", "id"])
def test_a_bundle_named_by_ids_is_read_with_symbols(tmp_path, named):
    bundle = make_bundle(tmp_path / "outs")
    ids = np.array([f"ENSG0000000000{i}" for i in range(5)])
    with h5py.File(bundle / "cell_feature_matrix.h5", "r+") as file:
        names = file["matrix/features/name"][:]
        del file["matrix/features/id"], file["matrix/features/name"]
        file["matrix/features/id"] = names
        file["matrix/features/name"] = np.append(ids, names[5:].astype(str)).astype("S30")
    cell, gene = np.nonzero(COUNTS[:, :5])
    repeats = COUNTS[cell, gene]
    stated = ids if named == "id" else np.array(list("ABCDE"))
    transcripts = pd.DataFrame({"cell_id": np.repeat(pd.read_parquet(bundle / "cells.parquet")["cell_id"].to_numpy()[cell], repeats)})
    transcripts.assign(feature_name=np.repeat(stated[gene], repeats), qv=40.0).to_parquet(bundle / "transcripts.parquet")
    read(bundle)
    assert anndata.read_h5ad(bundle / "out/counts.h5ad").var_names.tolist() == list("ABCDE")
    assert read_warnings(bundle / "out/cells.parquet") == ["5 genes are named by Ensembl ids; their symbols are those of the bundle"]


def test_the_real_mouse_bundle_has_the_warning(real_data, tmp_path):
    from nuclass_pipeline.data.xenium.read import read_cells

    read_cells(
        manifest=real_data / "xoa3.0_mouse_ileum_tiny/experiment.xenium", cells=tmp_path / "cells.parquet", counts=tmp_path / "counts.h5ad"
    )
    assert ["mouse" in warning for warning in read_warnings(tmp_path / "cells.parquet")] == [True]
