"""Names of labels become classes, or are listed for a person to explain."""

import pytest

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.labeling.names import GROUP, NOT_MATCHED, Match, match_names, read_names
from nuclass_pipeline.labeling.overrides import Provided, apply_provided
from nuclass_pipeline.vocabulary import UNRESOLVED, LabelMap, read_label_map
from tests import ROOT


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("CD8+ T cells", "T_Cell"),
        ("cd8_t_cell", "T_Cell"),
        ("B-cell", "B_Cell"),
        ("Endothelial cells", "Endothelial"),
        ("CL:0000084", "T_Cell"),
        ("cl:0000236", "B_Cell"),
        ("CL:0000057", "Fibroblast"),
        ("CL:0000115", "Endothelial"),
        ("CL:0001064", "Epithelial_Malignant"),
        ("pancreatic acinar cell", "Acinar"),
        ("NK", "NK_Cell"),
        ("Mac", "Macrophage"),
        ("Naive Thymus Derived CD4+ αβ T Cell", "T_Cell"),
        ("vegfa+ tumor cell", "Epithelial_Malignant"),
        ("Stromal Cell", "Fibroblast"),
    ],
)
def test_a_name_means_a_class(name, label):
    assert match_names([name], read_label_map(ROOT / "config/labels.tsv"), {}) == {name: Match(label)}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Lymphoid cells", GROUP),
        ("CL:0000542", GROUP),
        ("Myeloid", "lineage, not a class"),
        ("unassigned", "no label"),
        ("Hepatocytes", "not a class of the study"),
        ("CL:0000182", "not a class of the study"),
        ("goblet-ish", NOT_MATCHED),
        ("CL:9999999", NOT_MATCHED),
        ("cell", NOT_MATCHED),
        ("?", NOT_MATCHED),
    ],
)
def test_a_name_without_a_class_has_a_reason(name, reason):
    assert match_names([name], read_label_map(ROOT / "config/labels.tsv"), {}) == {name: Match(UNRESOLVED, reason)}


def test_what_a_person_wrote_wins():
    label_map = LabelMap({"T_Cell": "T_Cell", "NK_Cell": "NK_Cell", "T cells": "NK_Cell"}, {})
    assert match_names(["T cells"], label_map, {})["T cells"].label == "NK_Cell"
    assert match_names(["T cells"], label_map, {"T cells": "T_Cell"})["T cells"].label == "T_Cell"
    assert match_names(["T cells"], label_map, {"T cells": UNRESOLVED})["T cells"] == Match(UNRESOLVED)


def provide(labels, folder, names):
    """Apply labels of which the first cells have these names."""
    path = folder / "mine.csv"
    path.write_text("cell_id,label\n" + "".join(f"cell{i},{name}\n" for i, name in enumerate(names)))
    return apply_provided(labels, Provided(path, ROOT / "config/labels.tsv"))


def test_too_many_unknown_names_stop_with_a_table_to_fill_in(labels, tmp_path):
    names = ["T cells"] * 17 + ["clear one"] * 2 + ["=odd"]
    with pytest.raises(UserError) as caught:
        provide(labels, tmp_path, names)
    assert str(caught.value) == (
        f"{tmp_path}/mine.csv: labels: 3 of 20 labelled cells have a name that is not known: 'clear one' (2), '=odd' (1). "
        f"Fill in the column label of {tmp_path}/mine.names.tsv, with a class or Unresolved; then run again, and it is read."
    )
    table = tmp_path / "mine.names.tsv"
    assert table.read_text() == "name\tcells\tlabel\nclear one\t2\t\n'=odd\t1\t\n"

    table.write_text(
        table.read_text().replace("clear one\t2\t", "clear one\t2\tacinar cells").replace("'=odd\t1\t", "'=odd\t1\tUnresolved")
    )
    found, warnings = provide(labels, tmp_path, names)
    first = found.set_index("cell_id").loc[[f"cell{i}" for i in range(20)]]
    assert list(first["label"]) == ["T_Cell"] * 17 + ["Acinar"] * 2 + [UNRESOLVED]
    assert first["reason"].iloc[19] == "provided as Unresolved"
    assert not warnings


def test_few_unknown_names_leave_their_cells_unresolved_with_a_warning(labels, tmp_path):
    found, warnings = provide(labels, tmp_path, ["T cells"] * 18 + ["odd one"] * 2)
    assert warnings == [
        "2 of 20 labelled cells have a name that is not known: 'odd one' (2); "
        "fill in the column label of mine.names.tsv to give them a class"
    ]
    assert list(found.set_index("cell_id").loc[["cell18", "cell19"], "reason"]) == [NOT_MATCHED] * 2


FILLED = "name\tlabel\tnote\tcells\nmine\tT_Cell\tseen on H&E\t7\nof another slide\t\t?\t3\n"


def test_what_has_been_written_is_kept_in_the_table(labels, tmp_path):
    (tmp_path / "mine.names.tsv").write_text(FILLED)
    with pytest.raises(UserError, match="3 of 20 labelled cells have a name that is not known"):
        provide(labels, tmp_path, ["mine"] * 17 + ["odd one"] * 3)
    assert (tmp_path / "mine.names.tsv").read_text() == f"{FILLED}odd one\t\t\t3\n"


def test_a_table_that_is_filled_in_is_not_changed_by_few_unknown_names(labels, tmp_path):
    """Because the job would run again by a table that it changed."""
    (tmp_path / "mine.names.tsv").write_text(FILLED)
    _, warnings = provide(labels, tmp_path, ["mine"] * 18 + ["odd one"] * 2)
    assert (tmp_path / "mine.names.tsv").read_text() == FILLED
    assert warnings == ["2 of 20 labelled cells have a name that is not known: 'odd one' (2); give them a class in mine.names.tsv"]


def test_a_table_that_cannot_be_written_stops_nothing_by_itself(labels, tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("nuclass_pipeline.labeling.names.whole_file", refuse)
    _, warnings = provide(labels, tmp_path, ["T cells"] * 18 + ["odd one"] * 2)
    assert "'odd one' (2); mine.names.tsv cannot be written ([Errno 13]" in warnings[0]
    with pytest.raises(
        UserError, match=r"'odd one' \(2\)\. Let .*mine\.names\.tsv be written, or write it with the columns name and label"
    ):
        provide(labels, tmp_path, ["odd one"] * 2)


def test_cells_that_are_not_on_the_slide_are_counted(labels, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("cell_id,label\ncell0,T cells\nelsewhere,T cells\nthere,B cells\n")
    _, warnings = apply_provided(labels, Provided(path, ROOT / "config/labels.tsv"))
    assert warnings == ["mine.csv: 2 of 3 cells are not on the slide, such as 'elsewhere'; they are left out"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name\tlabel\nx\tT_Cel\n",
            "line 2, label: 'T_Cel' is not a class, did you mean 'T_Cell'? Use a class, or Unresolved, or leave it",
        ),
        ("name\tlabel\nx\tT_Cell\nx\tB_Cell\n", "line 3, name: 'x' occurs twice. Remove one of its rows."),
        ("name\tclass\nx\tT_Cell\n", "label: the column is missing"),
    ],
)
def test_a_table_of_names_is_refused_in_one_line(tmp_path, text, message):
    (tmp_path / "n.tsv").write_text(text)
    with pytest.raises(UserError) as caught:
        read_names(tmp_path / "n.tsv")
    assert message in str(caught.value)
