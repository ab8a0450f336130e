import pytest

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.vocabulary import CLASSES, ORGANS, UNRESOLVED, embedded_organs, looks_like, read_label_map
from tests import ROOT

HUMAN = ["CD3E", "MS4A1", "HLA-DRA", "C1orf112", "C9orf72", "CXorf40", "NKX2-1", "A1BG"]
MOUSE = ["Cd3e", "Ms4a1", "H2-Aa", "2010300C02Rik", "Gm1673", "A1cf", "Acta2"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (HUMAN, ""),
        (["C1orf112"] * 5, ""),
        (MOUSE, "mouse"),
        (["cd3e", "ms4a1"], ""),
        (["ENSG00000198851", "ENSG00000156738.19", "CD8A"], "ensembl"),
        (["ENSMUSG00000032093", "ENSMUSG00000024673"], "ensembl"),
        (["ENSG00000198851", "CD3E"], ""),
        ([*HUMAN, *MOUSE], ""),
        (["ENSA", "ENSG1"], ""),
        ([], ""),
    ],
)
def test_names_look_like_those_of_a_mouse_or_ids_where_most_do(names, expected):
    assert looks_like(names) == expected


def test_real_panels(real_data):
    import json

    targets = json.loads((real_data / "xoa3.0_mouse_ileum_tiny/gene_panel.json").read_text())["payload"]["targets"]
    genes = [target["type"]["data"] for target in targets if target["type"]["descriptor"] == "gene"]
    assert len(genes) == 5006
    assert looks_like(gene["name"] for gene in genes) == "mouse"
    assert looks_like(gene["id"] for gene in genes) == "ensembl"


def test_the_label_map_is_idempotent_and_counts_what_it_drops():
    label_map = read_label_map(ROOT / "config/labels.tsv")
    assert label_map.align(CLASSES).labels == list(CLASSES)
    aligned = label_map.align(["Tumor Cells", "Endocrine 1", "Myeloid", "Myeloid", "Odd", "Unresolved", "SMC/Pericyte"])
    assert aligned.labels == ["Epithelial_Malignant", "Endocrine", *[UNRESOLVED] * 5]
    assert aligned.dropped == {
        ("Myeloid", "lineage, not a class"): 2,
        ("Odd", "not in the label map"): 1,
        ("SMC/Pericyte", "two classes"): 1,
    }


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("X\tTCell\t\n", "line 2, class: 'TCell' (raw label 'X') is not a class, did you mean 'T_Cell'?"),
        ("X\tUnresolved\t\n", "'Unresolved' (raw label 'X') is not a class. Use one of Acinar"),
        ("X\tT_Cell\t\nX\tB_Cell\t\n", "line 3, raw: 'X' has two meanings: it is also in line 2"),
        ("X\tT_Cell\t\nX\tT_Cell\t\n", "line 3, raw: 'X' has two meanings: it is also in line 2"),
        ("B_Cell\tT_Cell\t\n", "line 2, raw: 'B_Cell' has two meanings: it is the name of another class"),
        ("X\t\t\n", "line 2: 'X' has neither a class nor a reason. Give a class, or the reason why its cells get none."),
        ("X\tT_Cell\tunsure\n", "line 2: 'X' has a class and a reason"),
        ("\tT_Cell\t\n", "line 2, raw: the raw label is empty"),
        ("X\tT_Cell\t\ty\n", "line 2, row: has 4 values for 3 columns"),
    ],
)
def test_a_wrong_label_map_is_refused_by_its_line(tmp_path, rows, message):
    path = tmp_path / "labels.tsv"
    path.write_text("raw\tclass\treason\n" + rows)
    with pytest.raises(UserError) as refused:
        read_label_map(path)
    assert message in str(refused.value)


@pytest.mark.parametrize("text", ["", "raw\tlabel\n", "raw\tclass\n"])
def test_a_label_map_without_its_columns_is_refused(tmp_path, text):
    (tmp_path / "labels.tsv").write_text(text)
    with pytest.raises(UserError, match=r"header: the file is empty|class: the column is missing|reason: the column is missing"):
        read_label_map(tmp_path / "labels.tsv")


def test_a_label_map_of_a_spreadsheet_is_read(tmp_path):
    (tmp_path / "labels.tsv").write_bytes("raw;class;reason\r\nαβ T;T_Cell;\r\nOdd;;too few\r\n;;\r\n".encode("utf-16"))
    assert read_label_map(tmp_path / "labels.tsv").align(["αβ T", "Odd"]).dropped == {("Odd", "too few"): 1}


def test_own_classes_are_mapped_beside_those_of_the_vocabulary(tmp_path):
    table = tmp_path / "labels.tsv"
    table.write_text("raw\tclass\treason\n1\tNerve\t\n2\tT_Cell\t\n")
    assert read_label_map(table, ["Nerve"]).align(["1", "2", "Nerve"]).labels == ["Nerve", "T_Cell", "Nerve"]
    with pytest.raises(UserError, match="'Nerve' \\(raw label '1'\\) is not a class"):
        read_label_map(table)


def test_the_embedding_has_a_further_row_only_for_other_organs():
    assert embedded_organs(["lung", "liver"]) == ORGANS
    assert embedded_organs(["lung", "other"]) == (*ORGANS, "other")
