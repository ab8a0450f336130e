"""CellMarker: the cell type is the cell's name and not its state, and one paper is not enough."""

import pytest

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.knowledge.sources.cellmarker import paper_weight, read_cellmarker

HEADER = "species,tissue_class,tissue_type,cell_type,cell_name,cellontology_id,marker,Symbol,PMID\n"


def _row(gene="ALB", name="Hepatocyte", pmid="1", tissue="Liver", state="Normal cell", species="Human"):
    return f"{species},{tissue},x,{state},{name},x,{gene.lower()},{gene},{pmid}\n"


def _read(tmp_path, text, organ="liver", name="Cell_marker_Human.csv"):
    path = tmp_path / name
    path.write_text(text)
    return read_cellmarker(path, organ)


def test_the_type_is_the_name_and_the_state_an_attribute(tmp_path):
    text = (
        HEADER + _row(pmid="1") + _row(pmid="2", state="Cancer cell") + _row("CD3D", "T cell", "3", "Blood") + _row("CD3D", "T cell", "4")
    )
    table = _read(tmp_path, text)
    assert table["name"].tolist() == ["Hepatocyte", "T cell"]
    assert table["type"].tolist() == ["Hepatocyte", "T_Cell"]
    assert table["state"].tolist() == ["Cancer cell, Normal cell", "Normal cell"]
    assert table["tissue"].tolist() == ["Liver", "Blood, Liver"]
    assert table["references"].tolist() == ["PMID:1;PMID:2", "PMID:3;PMID:4"]
    assert not {"Normal cell", "Cancer cell"} & set(table["name"])


def test_papers_are_counted_once(tmp_path):
    text = HEADER + _row("A", pmid="1") * 5 + "".join(_row("B", pmid=str(n)) for n in (1, 2, 2)) + _row("C", pmid="") * 3
    text += "".join(_row("D", pmid=str(n)) for n in range(8)) + "".join(_row("E", name, "1") for name in ("T cell", "B cell"))
    table = _read(tmp_path, text)
    assert dict(zip(table["gene"], table["weight"], strict=True)) == {"B": 1, "D": 3}


def test_other_tissues_and_species_are_left_out(tmp_path):
    rows = [_row("A", pmid=str(n)) for n in (1, 2)]
    rows += [_row("B", "Retinal ganglion cell", str(n), "Eye") for n in (1, 2)]
    rows += [_row("C", pmid=str(n), species="Mouse") for n in (1, 2)]
    assert _read(tmp_path, HEADER + "".join(rows))["gene"].tolist() == ["A"]


def test_a_gene_keeps_all_its_cell_types(tmp_path):
    text = HEADER + "".join(_row("IL7R", name, str(n)) for name in ("T cell", "Natural killer cell", "Odd cell") for n in (1, 2))
    assert set(_read(tmp_path, text)["type"]) == {"T_Cell", "NK_Cell", None}


@pytest.mark.parametrize(("papers", "weight"), [(2, 1), (4, 2), (8, 3), (500, 3)])
def test_weight_by_papers(papers, weight):
    assert paper_weight(papers) == weight


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "Tissue,CT,Gene\nLiver,Hepatocyte,ALB\n",
            "species: the column is missing; found Tissue, CT, Gene. The original has .*cell_name.*hrbmu",
        ),
        (HEADER + _row(), "no human marker of a tissue of liver is left"),
        (HEADER, "rows: the table has none"),
        ("", "cannot be read"),
    ],
)
def test_errors_are_one_line(tmp_path, text, problem):
    with pytest.raises(UserError, match=problem) as caught:
        _read(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_a_list_derived_from_it_is_refused(real_data):
    path = real_data / "markers/restricted_do_not_ship/CellMarker2_Human_Aug.csv"
    if not path.is_file():
        pytest.skip("CellMarker is not there")
    with pytest.raises(UserError, match=r"The original has species, tissue_class, cell_type, cell_name, Symbol, PMID"):
        read_cellmarker(path, "liver")
