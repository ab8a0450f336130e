"""Every cell type has a Cell Ontology id and a lineage, and each name of a type or group means what is listed, exactly."""

import re
import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.knowledge.cell_types import HIERARCHY, name_key, read_hierarchy
from nuclass_pipeline.vocabulary import CLASSES, LINEAGES

BREAST = ("Epithelial", "Myoepithelial", "Stromal", "Endothelial", "Perivascular", "T", "B", "Macrophage", "Dendritic", "Mast")
MYELOID = {"Macrophage", "Monocyte", "Dendritic_Cell", "Mast_Cell", "Neutrophil"}
LYMPHOID = {"T_Cell", "NK_Cell", "B_Cell", "Plasma_Cell"}

HEADER = "name\tkind\tcl_id\tcl_name\tstate\tparents\tnear\tsynonyms\tnarrower\n"
STROMAL = "Stromal\tgroup\tCL:0000499\tstromal cell\t\t\t\tstroma\t\n"
FIBROBLAST = "Fibroblast\tclass\tCL:0000057\tfibroblast\t\tStromal\t\t\t\n"


def _read(tmp_path, body, header=HEADER):
    path = tmp_path / "types.tsv"
    path.write_text(header + body)
    return read_hierarchy(path)


def test_the_classes_are_the_vocabulary_with_its_lineages():
    assert {name for name in HIERARCHY.types if HIERARCHY.nodes[name].kind == "class"} == set(CLASSES)
    assert {name: HIERARCHY.lineage_of(name) for name in CLASSES} == LINEAGES
    assert {HIERARCHY.lineage_of(name) for name in HIERARCHY.types} == set(LINEAGES.values())


def test_every_type_and_lineage_has_a_cell_ontology_id():
    for name in (*HIERARCHY.types, *set(LINEAGES.values())):
        assert re.fullmatch(r"CL:\d{7}", HIERARCHY.nodes[name].cl_id), name


def test_types_share_an_id_only_with_what_they_are_a_state_of():
    shared = {}
    for name in HIERARCHY.types:
        shared.setdefault(HIERARCHY.nodes[name].cl_id, []).append(name)
    shared = {cl_id: names for cl_id, names in shared.items() if len(names) > 1}
    assert shared == {
        "CL:0000115": ["Endothelial", "Endothelial_TumorAssociated"],
        "CL:0000057": ["Fibroblast", "Tumor_Associated_Fibroblast"],
    }
    for plain, state in shared.values():
        assert HIERARCHY.nodes[state].state == "tumour-associated"
        assert HIERARCHY.nodes[state].parents == (plain,)


@pytest.mark.parametrize(
    ("name", "cl_id", "path"),
    [
        ("T_Cell", "CL:0000084", ("T_Cell", "Lymphoid", "Immune")),
        ("Macrophage", "CL:0000235", ("Macrophage", "Myeloid", "Immune")),
        ("Tumor_Associated_Fibroblast", "CL:0000057", ("Tumor_Associated_Fibroblast", "Fibroblast", "Stromal")),
        ("Pericyte", "CL:0000669", ("Pericyte", "Perivascular", "Stromal")),
        ("Hepatocyte", "CL:0000182", ("Hepatocyte", "Epithelial")),
    ],
)
def test_ids_and_lineage_paths(name, cl_id, path):
    assert HIERARCHY.nodes[name].cl_id == cl_id
    assert HIERARCHY.path_of(name) == path


@pytest.mark.parametrize(
    ("names", "types"),
    [
        (("Myeloid", "myeloid cells", "MYELOID-CELL"), MYELOID),
        (("Lymphoid", "Lymphocyte", "lymphocytes"), LYMPHOID),
        (("Immune", "immune cells", "Leukocytes"), MYELOID | LYMPHOID),
        (("T", "T cell", "T_Cells", "t-cell", "CD8+ T cells", "Treg"), {"T_Cell"}),
        (("B", "B cells"), {"B_Cell"}),
        (("B lineage", "B/plasma"), {"B_Cell", "Plasma_Cell"}),
        (("T/NK", "T and NK cells"), {"T_Cell", "NK_Cell"}),
        (("NK", "natural killer cell"), {"NK_Cell"}),
        (("Plasma", "plasma cells", "plasmablast"), {"Plasma_Cell"}),
        (("Mast", "Mast_Cells"), {"Mast_Cell"}),
        (("Dendritic", "DCs", "pDC"), {"Dendritic_Cell"}),
        (("Mono/Mac", "Macrophage / Monocyte", "mononuclear phagocyte"), {"Macrophage", "Monocyte"}),
        (("Kupffer cells", "TAM"), {"Macrophage"}),
        (("Perivascular", "Perivascular-Like", "mural cells", "SMC/Pericyte"), {"Pericyte", "Smooth_Muscle"}),
        (("Muscle",), {"Smooth_Muscle", "Cardiomyocyte"}),
        (("Endothelial", "endothelium"), {"Endothelial", "Endothelial_TumorAssociated"}),
        (("Vascular",), {"Endothelial", "Endothelial_TumorAssociated", "Pericyte", "Smooth_Muscle"}),
        (("Fibroblast",), {"Fibroblast", "Tumor_Associated_Fibroblast"}),
        (("CAFs",), {"Tumor_Associated_Fibroblast"}),
        (("Tumor", "tumour cells", "Malignant", "Cancer"), {"Epithelial_Malignant"}),
        (("Melanocyte", "Neurons", "Luminal"), set()),
    ],
)
def test_names_cover_their_types(names, types):
    for name in names:
        found = HIERARCHY.types_in(name)
        assert found >= types, name
        # A class added later may join a lineage, and no other kind of name.
        assert found == types or set(map(HIERARCHY.lineage_of, found)) == set(map(HIERARCHY.lineage_of, types)), name


def test_groups_cover_the_types_of_their_members():
    assert HIERARCHY.types_in("Epithelial") == {name for name in HIERARCHY.types if HIERARCHY.lineage_of(name) == "Epithelial"}
    stromal = {name for name in HIERARCHY.types if HIERARCHY.lineage_of(name) == "Stromal"}
    assert HIERARCHY.types_in("Stromal") == stromal | {"Smooth_Muscle"}


@given(st.sampled_from(HIERARCHY.types), st.sampled_from(["{}s", " {} ", "{} cells", "({})", "{}-cell"]), st.booleans())
def test_case_plural_and_punctuation_do_not_matter(name, frame, upper):
    written = frame.format(name.replace("_", " - "))
    assert HIERARCHY.type_named(written.upper() if upper else written.lower()) == name


@given(st.sampled_from(HIERARCHY.types), st.integers(0, 30), st.sampled_from(string.ascii_lowercase))
def test_any_other_letter_does(name, place, letter):
    changed = name[: place % len(name)] + letter + name[place % len(name) + 1 :]
    listed = {name_key(alias) for node in HIERARCHY.nodes.values() for alias in (node.name, *node.synonyms, *node.narrower)}
    assume(name_key(changed) not in listed)
    assert HIERARCHY.type_named(changed) is None


@pytest.mark.parametrize(
    ("name", "type_"),
    [("goblet cell", "Epithelial_Intestinal"), ("crypt cell", "Epithelial_Intestinal"), ("club cell", "Epithelial_Airway")],
)
def test_parts_of_words_are_no_names(name, type_):
    assert HIERARCHY.type_named(name) == type_


@pytest.mark.parametrize("name", ["Ambiguous", "Normal cell", "Miloid", "cells", ""])
def test_names_that_are_not_listed_are_unknown(name):
    assert HIERARCHY.type_named(name) is None
    with pytest.raises(UserError, match="is not a known cell type or lineage"):
        HIERARCHY.types_in(name)


def test_an_unknown_lineage_is_reported_with_similar_names():
    with pytest.raises(UserError, match=r"types\.csv: lineage: 'Miloid' is not a known .* such as to .*Myeloid") as caught:
        HIERARCHY.map_to_lineages(HIERARCHY.types, ["T", "Miloid"], "types.csv")
    assert "\n" not in str(caught.value)


def test_the_ten_published_breast_lineages():
    expected = {
        "B_Cell": "B",
        "Plasma_Cell": "B",
        "Dendritic_Cell": "Dendritic",
        "Endothelial": "Endothelial",
        "Endothelial_TumorAssociated": "Endothelial",
        "Epithelial_Malignant": "Epithelial",
        "Myoepithelial": "Myoepithelial",
        "Fibroblast": "Stromal",
        "Tumor_Associated_Fibroblast": "Stromal",
        "Adipocyte": "Stromal",
        "Macrophage": "Macrophage",
        "Monocyte": "Macrophage",
        "Mast_Cell": "Mast",
        "NK_Cell": "T",
        "T_Cell": "T",
        "Pericyte": "Perivascular",
        "Smooth_Muscle": "Perivascular",
        "Neutrophil": None,
    }
    assert HIERARCHY.map_to_lineages(expected, BREAST) == expected


@pytest.mark.parametrize(
    ("lineages", "expected"),
    [
        (("T", "Myeloid", "B"), dict.fromkeys(MYELOID, "Myeloid") | {"NK_Cell": "T", "Plasma_Cell": "B"}),
        (("T", "NK", "Plasma", "Immune"), {"NK_Cell": "NK", "Plasma_Cell": "Plasma", "B_Cell": "Immune", "T_Cell": "T"}),
        (("Lymphoid", "T"), {"NK_Cell": "Lymphoid", "T_Cell": "T", "B_Cell": "Lymphoid"}),
        (("Epithelial", "Tumor"), {"Epithelial_Malignant": "Tumor", "Myoepithelial": "Epithelial"}),
        (("Stromal",), {"Pericyte": "Stromal", "Smooth_Muscle": "Stromal", "Endothelial": "Stromal", "Cardiomyocyte": None}),
        (("Stromal", "Muscle"), {"Pericyte": "Stromal", "Smooth_Muscle": "Muscle", "Cardiomyocyte": "Muscle"}),
        (("Stromal", "Vascular"), {"Pericyte": "Vascular", "Endothelial": "Vascular", "Fibroblast": "Stromal"}),
        (("Fibroblast", "Endothelial"), {"Pericyte": "Fibroblast", "Smooth_Muscle": "Fibroblast", "Adipocyte": None}),
        (("Fibroblast", "CAF"), {"Fibroblast": "Fibroblast", "Tumor_Associated_Fibroblast": "CAF"}),
        (("Monocyte", "T"), {"Macrophage": "Monocyte", "Dendritic_Cell": None, "Neutrophil": None}),
        (("Luminal", "Myoepithelial"), {"Epithelial_Malignant": "Luminal", "Myoepithelial": "Myoepithelial"}),
        (("Kupffer cells", "T"), {"Macrophage": "Kupffer cells"}),
        (("Kupffer cells", "Macrophages"), {"Macrophage": "Macrophages"}),
        (("Neurons",), {"T_Cell": None}),
    ],
)
def test_types_go_to_the_smallest_lineage_that_contains_them_or_the_nearest(lineages, expected):
    assert HIERARCHY.map_to_lineages(expected, lineages) == expected
    assert HIERARCHY.map_to_lineages(expected, lineages[::-1]) == expected


@pytest.mark.parametrize("lineages", [("Tumor", "Malignant"), ("CD4 T", "CD8 T")])
def test_lineages_that_mean_the_same_types_are_refused(lineages):
    with pytest.raises(UserError, match="which has no subtypes here"):
        HIERARCHY.map_to_lineages(HIERARCHY.types, lineages)


@given(st.lists(st.sampled_from(list(HIERARCHY.nodes)), unique=True))
def test_a_type_never_leaves_a_lineage_that_contains_it(lineages):
    for cell_type, name in HIERARCHY.map_to_lineages(HIERARCHY.types, lineages).items():
        holders = [other for other in lineages if cell_type in HIERARCHY.types_in(other)]
        assert (name in holders) if holders else (name is None or cell_type not in HIERARCHY.types_in(name))
        assert all(len(HIERARCHY.types_in(name)) <= len(HIERARCHY.types_in(other)) for other in holders)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (FIBROBLAST, "'Stromal' has no row"),
        (STROMAL + FIBROBLAST.replace("Stromal", ""), "none of them leads to a lineage"),
        (STROMAL + FIBROBLAST.replace("CL:0000057", "CL:57"), "'CL:57' is not a Cell Ontology id"),
        (STROMAL.replace("CL:0000499", ""), "'' is not a Cell Ontology id"),
        (STROMAL + FIBROBLAST.replace("class", "kind"), "'kind' is not a kind"),
        (STROMAL + FIBROBLAST + FIBROBLAST, "occurs twice"),
        (STROMAL + FIBROBLAST + FIBROBLAST.replace("Fibroblast", "CAF"), "CL:0000057 occurs twice"),
        (STROMAL + FIBROBLAST.replace("\tStromal\t", "\tFibroblast\t"), "form a circle"),
        (STROMAL + FIBROBLAST.replace("\t\t\t\n", "\t\tstroma\t\n"), "'stroma' has two meanings"),
        (STROMAL + FIBROBLAST.replace("\t\t\t\n", "\t\tcells\t\n"), "'cells' has no word besides cell"),
    ],
)
def test_a_broken_table_is_reported_in_one_line(tmp_path, body, problem):
    with pytest.raises(UserError, match=problem) as caught:
        _read(tmp_path, body)
    assert "\n" not in str(caught.value)


def test_a_missing_column_of_the_table_is_named(tmp_path):
    with pytest.raises(UserError, match="cl_id: the column is missing"):
        _read(tmp_path, "", header=HEADER.replace("\tcl_id", ""))
