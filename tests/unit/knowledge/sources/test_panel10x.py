"""10x panel annotations, with any names of columns; and the share of each panel that the marker table covers."""

import pandas as pd
import pytest

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.knowledge.markers import read_markers, restrict_to_panel
from nuclass_pipeline.knowledge.sources.panel10x import read_panel_list
from nuclass_pipeline.vocabulary import ORGANS


def _read(tmp_path, text, organ="kidney"):
    path = tmp_path / "panel.csv"
    path.write_text(text)
    table = read_panel_list(path, organ)
    return list(table[["gene", "name", "type", "tissue", "weight"]].itertuples(index=False, name=None))


def test_one_cell_type_per_gene(tmp_path):
    text = "Genes,Ensembl_ID,Annotation\nCD3D,E1,T cells\nKIT,E2,Mast cells\nMKI67,E3,Proliferation\nA,E4,\n"
    assert _read(tmp_path, text) == [
        ("CD3D", "T cells", "T_Cell", "", 3),
        ("KIT", "Mast cells", "Mast_Cell", "", 3),
        ("MKI67", "Proliferation", None, "", 3),
    ]


def test_the_weight_of_a_gene_is_divided_by_its_types(tmp_path):
    text = 'gene,cell_type\nX,"CD8-positive, alpha-beta T cell;regulatory T cell;mast cell;human;macrophage"\n'
    found = _read(tmp_path, text)
    assert [row[2] for row in found] == ["T_Cell", "T_Cell", "Mast_Cell", None, "Macrophage"]
    assert {row[4] for row in found} == {1}


def test_tissues_of_other_organs_are_left_out_in_either_layout(tmp_path):
    columns = "gene,Tissues,Cell types\nACE2,General;Kidney;Liver,Smooth muscle cells;Proximal tubular cells;Hepatocytes\n"
    prefix = 'Gene,Annotation\nACE2,"General - Smooth muscle cells,Kidney - Proximal tubular cells,Liver - Hepatocytes"\n'
    for text in (columns, prefix):
        assert [row[:4] for row in _read(tmp_path, text)] == [
            ("ACE2", "Smooth muscle cells", "Smooth_Muscle", "General"),
            ("ACE2", "Proximal tubular cells", "Epithelial_Renal", "Kidney"),
        ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("symbol,Annotation\nA,T cell\n", "gene: the column is missing; found symbol, Annotation"),
        ("gene,notes\nA,T cell\n", "Annotation: the column is missing"),
        ("gene,Tissues,Cell types\nA,General;Kidney,T cells\n", "A has 2 tissues and 1 cell types"),
        ("gene,Tissues,Cell types\nA,Brain,T cells\n", "no human marker of a tissue of kidney is left"),
    ],
)
def test_errors_name_the_column(tmp_path, text, problem):
    with pytest.raises(UserError, match=problem):
        _read(tmp_path, text)


COVERAGE = {
    ("hBreast", "breast"): (280, 0.62),
    ("hColon", "colon"): (322, 0.46),
    ("hLung", "lung"): (289, 0.72),
    ("hMulti", "lung"): (377, 0.63),
    ("hMulti", "pancreas"): (377, 0.60),
    ("hIO", "breast"): (380, 0.46),
    ("hPrime5K", "breast"): (5001, 0.073),
}


@pytest.mark.parametrize(("panel", "organ"), COVERAGE)
def test_the_marker_table_covers_the_panels(real_data, markers_tsv, panel, organ):
    path = real_data / f"markers/panels_10x/{panel}.csv"
    if not path.is_file():
        pytest.skip("the panels are not there")
    genes = pd.read_csv(path).iloc[:, 0].tolist()
    size, lowest = COVERAGE[panel, organ]
    known = (restrict_to_panel(read_markers(markers_tsv), organ, genes).weights != 0).any(axis=1)
    assert len(known) == size
    assert known.mean() >= lowest


@pytest.mark.parametrize(
    "panel", ["hBreast", "hColon", "hLung", "hMulti", "hIO", "hSkin", "hPrime5K", "Xenium_hMulti_v1_metadata.original"]
)
def test_every_panel_file_is_read(real_data, panel):
    path = real_data / f"markers/panels_10x/{panel}.csv"
    if not path.is_file():
        pytest.skip("the panels are not there")
    tables = [read_panel_list(path, organ) for organ in ORGANS]
    for table in tables:
        assert table["type"].notna().sum() >= 50
        assert {"T_Cell", "Macrophage", "Fibroblast"} & set(table["type"].dropna())
        assert table["weight"].between(0, 3, inclusive="right").all()


def test_the_two_layouts_of_the_multi_tissue_panel_agree(real_data):
    paths = [real_data / f"markers/panels_10x/{name}.csv" for name in ("hMulti", "Xenium_hMulti_v1_metadata.original")]
    if not all(path.is_file() for path in paths):
        pytest.skip("the panels are not there")
    one, two = (set(zip(table["gene"], table["type"], strict=True)) for table in (read_panel_list(path, "liver") for path in paths))
    assert len(one & two) / len(one | two) > 0.95
