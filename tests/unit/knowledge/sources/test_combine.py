"""Markers of many sources become one weight, in any order, and a marker table that can be read again."""

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from nuclass_pipeline.knowledge.markers import Marker, read_markers, restrict_to_panel, write_markers
from nuclass_pipeline.knowledge.sources.build import build_markers
from nuclass_pipeline.knowledge.sources.combine import MARKER_SOURCES, combine, from_markers
from nuclass_pipeline.knowledge.sources.symbols import Symbols
from nuclass_pipeline.vocabulary import ORGANS


def _table(*rows):
    columns = ["gene", "type", "source", "weight", "positive", "organs"]
    frame = pd.DataFrame(list(rows), columns=columns).assign(name="x", release="x", references="PMID:1")
    return frame.reindex(columns=[column.name for column in MARKER_SOURCES.columns]).astype({"tissue": object, "state": object})


def test_sources_combine_like_independent_probabilities():
    table = _table(("CD3D", "T_Cell", "a", 1.0, True, "lung"), ("CD3D", "T_Cell", "b", 1.5, True, "lung"))
    (marker,) = combine(table)
    assert marker == Marker("T_Cell", "CD3D", 3 * (1 - (2 / 3) * (1 / 2)), frozenset({"lung"}), "a (PMID:1); b (PMID:1)")


def test_of_the_rows_of_one_source_the_heaviest_counts():
    table = _table(("CD3D", "T_Cell", "a", 1.0, True, "lung"), ("CD3D", "T_Cell", "a", 2.0, True, "lung"))
    assert [marker.weight for marker in combine(table)] == [2]


def test_evidence_against_a_type_is_subtracted_and_a_weight_of_0_left_out():
    table = _table(
        ("A", "T_Cell", "a", 3.0, True, "lung"),
        ("A", "T_Cell", "b", 1.0, False, "lung"),
        ("B", "T_Cell", "a", 1.0, True, "lung"),
        ("B", "T_Cell", "b", 1.0, False, "lung"),
        ("C", None, "a", 3.0, True, "lung"),
    )
    assert [(marker.gene, marker.weight) for marker in combine(table)] == [("A", 2)]


def test_a_gene_may_be_a_marker_of_many_types_and_differ_by_organ():
    table = _table(
        ("A", "T_Cell", "a", 3.0, True, "colon,lung"),
        ("A", "NK_Cell", "a", 1.0, True, "lung"),
        ("A", "T_Cell", "b", 1.5, False, "lung"),
    )
    assert [(m.type, m.weight, m.organs) for m in combine(table)] == [
        ("NK_Cell", 1, {"lung"}),
        ("T_Cell", 1.5, {"lung"}),
        ("T_Cell", 3, {"colon"}),
    ]


ROW = st.tuples(
    st.sampled_from("AB"),
    st.sampled_from(["T_Cell", "B_Cell", None]),
    st.sampled_from("xyz"),
    st.floats(0.1, 3),
    st.booleans(),
    st.sampled_from(["lung", "colon", "colon,lung"]),
)


@given(st.lists(ROW, min_size=1, max_size=12), st.randoms())
def test_combining_does_not_depend_on_order_and_stays_on_the_scale(rows, random):
    markers = combine(_table(*rows))
    random.shuffle(rows)
    assert combine(_table(*rows)) == markers
    assert all(0 < abs(marker.weight) <= 3 for marker in markers)
    keys = [(marker.type, marker.gene, organ) for marker in markers for organ in marker.organs]
    assert len(keys) == len(set(keys))


def test_the_own_table_alone_comes_back_as_it_was(markers_tsv, tmp_path):
    own = read_markers(markers_tsv)
    combined = combine(from_markers(own, source="own", release="x"))
    write_markers(combined, tmp_path / "markers.tsv")
    again = read_markers(tmp_path / "markers.tsv")
    genes = sorted({marker.gene for marker in own})
    for organ in ORGANS:
        before, after = (restrict_to_panel(markers, organ, genes) for markers in (own, again))
        assert before.types == after.types
        assert (before.weights == after.weights).all()
    assert again == combined
    assert all(marker.source.startswith("own (") for marker in again)


def test_approved_symbols_join_genes_with_different_names():
    symbols = Symbols({"ADGRE5": (["CD97"], [])})
    markers = [Marker("Monocyte", "CD97", 1.0, frozenset({"lung"}), "x")]
    table = pd.concat(
        [from_markers(markers, source="own", release="x", symbols=symbols), _table(("ADGRE5", "Monocyte", "a", 1.5, True, "lung"))]
    )
    assert [(marker.gene, marker.weight) for marker in combine(table)] == [("ADGRE5", 2)]


def test_a_marker_table_is_built_from_downloads(tmp_path):
    own, panel, cells = tmp_path / "markers.tsv", tmp_path / "hPanel.csv", tmp_path / "Cell_marker_Human.csv"
    own.write_text("class\tgene\tweight\torgans\tsource\nT_Cell\tCD3D\t3\tall\tPMID:9\nHepatocyte\tALB\t1\tliver\tPMID:8\n")
    panel.write_text("gene,Annotation\nALB,Hepatocytes\nARG1,Hepatocytes\n")
    cells.write_text(
        "species,tissue_class,cell_type,cell_name,Symbol,PMID\n"
        + "".join(f"Human,Liver,Normal cell,Hepatocyte,ALB,{n}\n" for n in range(4))
    )
    build_markers(own=own, organ="liver", output=tmp_path / "out.tsv", cellmarker=cells, panels=[panel])
    found = {(m.type, m.gene): (m.weight, m.organs, m.source) for m in read_markers(tmp_path / "out.tsv")}
    assert found == {
        ("T_Cell", "CD3D"): (3, frozenset(ORGANS), "own (PMID:9)"),
        ("Hepatocyte", "ALB"): (3, {"liver"}, "10x panel; CellMarker 2.0 (4 papers); own (PMID:8)"),
        ("Hepatocyte", "ARG1"): (3, {"liver"}, "10x panel"),
    }
