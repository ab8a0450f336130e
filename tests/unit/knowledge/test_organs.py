"""Cell types and tissues of the eight organs, and of a user's own file."""

import pytest

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.knowledge.cell_types import HIERARCHY
from nuclass_pipeline.knowledge.markers import admissible, read_markers, restrict_to_panel
from nuclass_pipeline.knowledge.organs import ORGAN_TYPES, read_organ_types
from nuclass_pipeline.vocabulary import ORGANS

OWN = """
everywhere: {types: [T_Cell, B_Cell], tissues: [Blood]}
organs:
  liver: {types: [Hepatocyte], tissues: [Liver]}
"""


def _read(tmp_path, text):
    path = tmp_path / "organs.yaml"
    path.write_text(text)
    return read_organ_types(path)


def test_each_organ_has_types_and_every_type_has_an_organ():
    assert set(ORGAN_TYPES.organs) == set(ORGANS)
    assert set().union(*map(ORGAN_TYPES.types_of, ORGANS)) == set(HIERARCHY.types)


def test_organs_differ_in_the_types_that_they_add():
    everywhere = set.intersection(*(set(ORGAN_TYPES.types_of(organ)) for organ in ORGANS))
    assert everywhere == set(ORGAN_TYPES.everywhere.types)
    own = {organ: set(ORGAN_TYPES.types_of(organ)) - everywhere for organ in ORGANS}
    assert own["heart"] == {"Adipocyte", "Cardiomyocyte"}
    assert own["pancreas"] >= {"Acinar", "Ductal", "Endocrine", "Epithelial_Malignant"}
    assert "Epithelial_Malignant" not in own["heart"]


def test_an_organ_does_not_have_tissues_of_other_organs_germ_line_or_brain():
    foreign = {"brain", "embryo", "zygote", "reproductive", "olfactory system", "eye", "testis"}
    for organ in ORGANS:
        tissues = ORGAN_TYPES.tissues_of(organ)
        assert organ in tissues
        assert not tissues & (foreign | set(ORGANS) - {organ})


def test_an_own_file_decides_which_types_are_admissible(tmp_path, markers_tsv):
    own = _read(tmp_path, OWN)
    assert admissible("liver", own) == ("B_Cell", "Hepatocyte", "T_Cell")
    panel = restrict_to_panel(read_markers(markers_tsv), "liver", ["CD3D", "ALB", "CD68"], own)
    assert panel.types == ("Hepatocyte", "T_Cell")
    with pytest.raises(UserError, match="no cell types are listed for 'lung'"):
        admissible("lung", own)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [", "not valid YAML"),
        ("[]", "organs"),
        (OWN.replace("Hepatocyte", "Hepatocytes"), "organs.liver.types: 'Hepatocytes' is not a known cell type"),
        (OWN.replace("  liver", "  nowhere"), "'nowhere' is not a known organ"),
        (OWN.replace("[Hepatocyte]", "[Hepatocyte, T_Cell]"), "T_Cell is listed twice for liver"),
        (OWN.replace("tissues: [Liver]", "tissue: [Liver]"), "organs.liver.tissues: Field required"),
        (OWN.replace("[Blood]", "[]"), "everywhere.tissues"),
    ],
)
def test_a_broken_file_is_reported_in_one_line(tmp_path, text, problem):
    with pytest.raises(UserError, match=problem) as caught:
        _read(tmp_path, text)
    assert "\n" not in str(caught.value)
