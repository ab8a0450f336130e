"""The profiles of the eight organs, and a user's own."""

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


def test_there_is_a_profile_for_each_organ_and_every_type_has_one():
    assert set(ORGAN_TYPES.organs) == set(ORGANS)
    assert set().union(*map(ORGAN_TYPES.types_of, ORGANS)) == set(HIERARCHY.types)


def test_organs_differ_in_what_is_their_own():
    everywhere = set.intersection(*(set(ORGAN_TYPES.types_of(organ)) for organ in ORGANS))
    assert everywhere == set(ORGAN_TYPES.everywhere.types)
    own = {organ: set(ORGAN_TYPES.types_of(organ)) - everywhere for organ in ORGANS}
    assert own["heart"] == {"Adipocyte", "Cardiomyocyte"}
    assert own["pancreas"] >= {"Acinar", "Ductal", "Endocrine", "Epithelial_Malignant"}
    assert [organ for organ in ORGANS if "Epithelial_Malignant" not in own[organ]] == ["heart"]


def test_tissues_of_other_organs_germ_line_and_brain_are_no_tissues_of_an_organ():
    foreign = {"brain", "embryo", "zygote", "reproductive", "olfactory system", "eye", "testis"}
    for organ in ORGANS:
        tissues = ORGAN_TYPES.tissues_of(organ)
        assert organ in tissues
        assert not tissues & (foreign | set(ORGANS) - {organ})


def test_an_own_profile_decides_what_is_admissible(tmp_path, markers_tsv):
    own = _read(tmp_path, OWN)
    assert admissible("liver", own) == ("B_Cell", "Hepatocyte", "T_Cell")
    panel = restrict_to_panel(read_markers(markers_tsv), "liver", ["CD3D", "ALB", "CD68"], own)
    assert panel.types == ("Hepatocyte", "T_Cell")
    with pytest.raises(UserError, match="'lung' has no profile"):
        admissible("lung", own)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "not valid YAML"),
        ("[]", "organs"),
        (OWN.replace("Hepatocyte", "Hepatocytes"), "organs.liver.types: 'Hepatocytes' is no known type"),
        (OWN.replace("  liver", "  spleen"), "'spleen' is no organ"),
        (OWN.replace("[Hepatocyte]", "[Hepatocyte, T_Cell]"), "T_Cell is listed twice for liver"),
        (OWN.replace("tissues: [Liver]", "tissue: [Liver]"), "organs.liver.tissues: Field required"),
        (OWN.replace("[Blood]", "[]"), "everywhere.tissues"),
    ],
)
def test_a_broken_profile_is_told_in_one_line(tmp_path, text, told):
    with pytest.raises(UserError, match=told) as caught:
        _read(tmp_path, text)
    assert "\n" not in str(caught.value)
