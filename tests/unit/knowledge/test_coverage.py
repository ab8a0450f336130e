from pathlib import Path

import pandas as pd
import pytest

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.knowledge.coverage import check_panel, coverage_warnings
from nuclass_pipeline.knowledge.markers import admissible, read_markers, restrict_to_panel
from nuclass_pipeline.vocabulary import GENE_NAME_STYLES


def warnings(markers_tsv, genes, organ="lung"):
    return coverage_warnings(restrict_to_panel(read_markers(markers_tsv), organ, genes), organ, genes)


@pytest.fixture
def symbols(markers_tsv):
    return sorted({marker.gene for marker in read_markers(markers_tsv) if "lung" in marker.organs})


def test_a_human_panel_gives_no_warning(markers_tsv, symbols):
    assert warnings(markers_tsv, symbols) == []


def test_mouse_and_ensembl_names_are_named(markers_tsv, symbols):
    n = len(admissible("lung"))
    mouse, ensembl = [name.capitalize() for name in symbols], [f"ENSG{i:011d}" for i in range(len(symbols))]
    coverage = f" of {n} cell types of the lung have a marker on the panel; the gene names look like "
    assert warnings(markers_tsv, mouse)[0].endswith(f"{coverage}{GENE_NAME_STYLES['mouse']}")
    assert warnings(markers_tsv, ensembl) == [f"0{coverage}{GENE_NAME_STYLES['ensembl']}"]


def test_a_panel_for_another_tissue_is_named(markers_tsv):
    n = len(admissible("lung"))
    assert warnings(markers_tsv, ["CD3D", "XYZ1", "XYZ2"]) == [f"1 of {n} cell types of the lung have a marker on the panel"]


def check(markers_tsv, genes):
    check_panel(restrict_to_panel(read_markers(markers_tsv), "lung", genes), "lung", genes, Path("mine"))


@pytest.mark.parametrize("genes", [["CD3D", "XYZ1", "XYZ2"], ["XYZ1"], []])
def test_a_panel_for_another_tissue_is_not_refused(markers_tsv, symbols, genes):
    check(markers_tsv, genes)
    check(markers_tsv, symbols)


def test_a_panel_of_a_mouse_or_of_ids_is_refused(markers_tsv, symbols, tmp_path):
    n, mouse = len(admissible("lung")), [name.capitalize() for name in symbols]
    for genes, style in ((mouse, "mouse"), ([*(f"ENSG{i:011d}" for i in range(9)), "CD3E"], "ensembl")):
        with pytest.raises(UserError) as caught:
            check(markers_tsv, genes)
        seen = len(restrict_to_panel(read_markers(markers_tsv), "lung", genes).types)
        assert str(caught.value) == (
            f"mine: panel: {seen} of {n} cell types of the lung have a marker on the panel; the gene names look like "
            f"{GENE_NAME_STYLES[style]}. Name a marker table with the genes of the panel: --markers FILE, or labeling.markers in the run "
            "file."
        )
    # What the remedy says: a table with the names of the panel.
    rows = pd.read_csv(markers_tsv, sep="\t", dtype=str, keep_default_na=False)
    rows.assign(gene=rows["gene"].str.capitalize()).drop_duplicates(["class", "gene"]).to_csv(tmp_path / "mouse.tsv", sep="\t", index=False)
    check(tmp_path / "mouse.tsv", mouse)
