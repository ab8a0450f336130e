"""The marker table covers every class, and its errors are reported in one line."""

import pytest

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.knowledge.cell_types import HIERARCHY
from nuclass_pipeline.knowledge.markers import TYPES, admissible, read_markers, restrict_to_panel
from nuclass_pipeline.vocabulary import CLASSES, ORGANS

HEADER = "class\tgene\tweight\torgans\tsource\n"


def _read(tmp_path, body, header=HEADER):
    path = tmp_path / "markers.tsv"
    path.write_text(header + body)
    return read_markers(path)


def test_every_class_has_eight_markers(markers_tsv):
    markers = read_markers(markers_tsv)
    for name in CLASSES:
        assert len({marker.gene for marker in markers if marker.type == name and marker.weight > 0}) >= 8, name


def test_every_type_occurs_in_an_organ(markers_tsv):
    assert set().union(*map(admissible, ORGANS)) == set(TYPES) == {marker.type for marker in read_markers(markers_tsv)}


def test_lamp3_is_alveolar_in_lung_and_dendritic_elsewhere(markers_tsv):
    markers = read_markers(markers_tsv)
    for organ, first, second in (("lung", "Epithelial_Alveolar", "Dendritic_Cell"), ("breast", "Dendritic_Cell", None)):
        panel = restrict_to_panel(markers, organ, ["LAMP3"])
        weight = dict(zip(panel.types, panel.weights[0], strict=True))
        assert max(weight, key=weight.get) == first
        assert second is None or weight[first] > weight[second]


def test_types_without_a_marker_on_the_panel_are_left_out(markers_tsv):
    panel = restrict_to_panel(read_markers(markers_tsv), "pancreas", ["INS", "CD3D", "no such gene"])
    assert panel.types == ("Endocrine", "T_Cell")
    assert panel.weights.shape == (3, 2)
    assert not panel.weights[2].any()


def test_an_organ_without_types_is_refused():
    with pytest.raises(UserError, match="no cell types are listed for 'spleen'"):
        admissible("spleen")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("", "rows: the table has none"),
        ("T_cell\tCD3D\t3\tall\tx\n", "'T_cell' is not a known cell type"),
        ("T_Cell\tCD3D\t3\tall\tx\nT_Cell\tCD3D\t2\tlung\tx\n", "CD3D occurs twice for T_Cell"),
        ("T_Cell\tCD3D\t4\tall\tx\n", "'4' is not a weight"),
        ("T_Cell\tCD3D\tstrong\tall\tx\n", "'strong' is not a weight"),
        ("T_Cell\tCD3D\t0\tall\tx\n", "'0' is not a weight"),
        ("T_Cell\tCD3D\t3\tlung,spleen\tx\n", "'spleen' is not a known organ"),
        ("T_Cell\t\t3\tall\tx\n", "a field is empty"),
        ("T_Cell\tCD3D\n", "a field is empty"),
    ],
)
def test_errors_are_one_line(tmp_path, body, problem):
    with pytest.raises(UserError, match=problem) as caught:
        _read(tmp_path, body)
    assert "\n" not in str(caught.value)


def test_a_missing_column_is_named(tmp_path):
    with pytest.raises(UserError, match="weight: the column is missing"):
        _read(tmp_path, "", header="class\tgene\torgans\tsource\n")


def test_a_marker_has_its_source(markers_tsv):
    sources = {(marker.type, marker.gene): marker.source for marker in read_markers(markers_tsv)}
    assert sources["Acinar", "PRSS1"] == "PMID:27667365"
    assert all(source.startswith(("PMID:", "10x h")) for source in sources.values())


def test_admissible_types_map_to_lineages_of_other_data_sets():
    assert HIERARCHY.lineage_of("NK_Cell") == TYPES["NK_Cell"] == "Lymphoid"
    assert HIERARCHY.types_in("T/NK") == {"T_Cell", "NK_Cell"}
    assert HIERARCHY.map_to_lineages(admissible("heart"), ["Muscle", "Immune"])["Cardiomyocyte"] == "Muscle"
