"""Records hold the evidence of the tables, have one hash whatever the order, and refuse tables that do not belong together."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.knowledge.markers import Panel
from nuclass_pipeline.proposals.collect import collect_evidence, marker_values

GENES = ["CD3D", "NKG7", "DCN", "ACTB"]
PANEL = Panel(("Fibroblast", "NK_Cell", "T_Cell"), np.array([[0, 1, 3], [0, 2, 0], [2, 0, -1], [0, 0, 0]], float))
ROWS = [("CD3D", 2.5, 0.8, 0.2), ("DCN", 1.0, 0.5, 0.4), ("ACTB", 0.6, 0.9, 0.8)]


def table(cluster, rows=ROWS):
    frame = pd.DataFrame(rows, columns=["gene", "log2fc", "fraction_in", "fraction_out"])
    return frame.assign(cluster=cluster, rank=range(1, len(rows) + 1))


def collect(cluster="a", markers=None, **more):
    options = {"sizes": {cluster: 50}, "panel": PANEL, "genes": GENES, "organ": "breast"} | more
    return collect_evidence(markers=table(cluster) if markers is None else markers, **options)


def test_the_value_of_a_marker_by_hand():
    found = marker_values(np.clip(PANEL.weights, 0, None))
    # CD3D marks 2 of 3 types with weights 1 and 3; NKG7 and DCN mark one; ACTB marks none.
    expected = [
        [0, np.log(1 + 3 / 2) * 1 / 4, np.log(1 + 3 / 2) * 3 / 4],
        [0, np.log(4), 0],
        [np.log(4), 0, 0],
        [0, 0, 0],
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_support_by_hand():
    (record,) = collect()
    cd3d, unseen = np.log(2.5), 2 * np.log(4)
    scores = {support.label: (support.score, support.genes, support.lineage) for support in record.support}
    assert scores["T_Cell"] == (pytest.approx(0.6 * 0.75 * cd3d / (0.75 * cd3d + unseen)), ("CD3D",), "Lymphoid")
    assert scores["NK_Cell"] == (pytest.approx(0.6 * 0.25 * cd3d / (0.25 * cd3d + np.log(4) + unseen)), ("CD3D",), "Lymphoid")
    assert scores["Fibroblast"] == (pytest.approx(0.1 / 3), ("DCN",), "Stromal")
    assert [support.label for support in record.support] == ["T_Cell", "Fibroblast", "NK_Cell"]


@pytest.mark.parametrize("n", [1, 2, 8, 20])
def test_many_markers_prove_a_type_and_one_does_not(n):
    genes = [f"G{i}" for i in range(n)]
    panel = Panel(("B_Cell", "T_Cell"), np.tile([0.0, 3.0], (n, 1)))
    (record,) = collect(markers=table("a", [(gene, 9, 1, 0) for gene in genes]), panel=panel, genes=genes)
    assert [(support.label, support.score) for support in record.support] == [("T_Cell", pytest.approx(n / (n + 2)))]


def test_the_attainable_support_counts_as_many_markers_as_a_record_holds():
    genes = [f"G{i}" for i in range(25)]
    panel = Panel(("T_Cell",), np.full((25, 1), 2.0))
    markers = table("a", [(gene, 3, 0.5, 0) for gene in genes])
    (record,) = collect(markers=markers.sample(frac=1, random_state=0), panel=panel, genes=genes)
    assert [marker.gene for marker in record.markers] == genes[:20]
    assert record.support[0].score == pytest.approx(0.5 * 20 / 22)


@given(st.integers(1, 6), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_support_agrees_with_the_plain_loop(types, n_genes, seed):
    rng = np.random.default_rng(seed)
    names = ("B_Cell", "Fibroblast", "Macrophage", "NK_Cell", "Plasma_Cell", "T_Cell")[:types]
    weights = rng.integers(-2, 4, (n_genes, types)).astype(float)
    weights[rng.integers(n_genes, size=types), range(types)] = 1
    genes = [f"G{i}" for i in range(n_genes)]
    inside, outside = rng.random((2, n_genes))
    rows = [(gene, 1.0, a, b) for gene, a, b in zip(genes, inside, outside, strict=True)]
    (record,) = collect(markers=table("a", rows), panel=Panel(names, weights), genes=genes)
    found = {support.label: support.score for support in record.support}
    for column, name in enumerate(names):
        total, attainable = 0.0, 2 * np.log(1 + types)
        for row in range(n_genes):
            positive = [w for w in weights[row] if w > 0]
            if weights[row, column] > 0:
                value = np.log(1 + types / len(positive)) * weights[row, column] / sum(positive)
                attainable, total = attainable + value, total + value * max(0.0, inside[row] - outside[row])
        assert found.get(name, 0.0) == pytest.approx(total / attainable)
        assert 0 <= found.get(name, 0.0) < 1


def test_the_record_of_a_cluster_without_markers_lists_the_empty_blocks():
    first, second = collect("a", sizes={"b": 7, "a": 50})
    assert (first.cluster, first.n_cells, first.markers, first.support) == ("b", 7, (), ())
    assert json.loads(first.to_json())["empty"] == ["markers", "support", "programs", "composition"]
    assert json.loads(second.to_json())["empty"] == ["programs", "composition"]


def test_the_hash_ignores_order_and_last_bits_and_nothing_else():
    (record,) = collect(compositions={"a": {"T_Cell": 0.1 + 0.2, "B_Cell": 0.1}})
    (reordered,) = collect(
        markers=table("a").sample(frac=1, random_state=1),
        panel=Panel(PANEL.types[::-1], PANEL.weights[:, ::-1]),
        compositions={"a": {"B_Cell": 0.1, "T_Cell": 0.3}},
    )
    assert reordered.sha256() == record.sha256()
    for change in ({"organ": "lung"}, {"sizes": {"a": 51}}, {"compositions": {"a": {"B_Cell": 0.1001, "T_Cell": 0.3}}}):
        assert collect(**{"compositions": {"a": {"B_Cell": 0.1, "T_Cell": 0.3}}} | change)[0].sha256() != record.sha256()


@pytest.mark.parametrize("genes", [["CD3D", "NKG7"], np.array(["CD3D", "NKG7"]), "CD3D;NKG7"])
def test_programs_are_the_six_most_significant(genes):
    rows = [("a", f"term {i}", 10.0**-i, genes) for i in range(1, 9)]
    (record,) = collect(programs=pd.DataFrame(rows, columns=["cluster", "name", "q_value", "genes"]).sample(frac=1, random_state=0))
    assert [program.name for program in record.programs] == [f"term {i}" for i in range(8, 2, -1)]
    assert record.programs[0].genes == ("CD3D", "NKG7")
    assert record.genes == {"CD3D", "NKG7", "DCN", "ACTB"}


def test_labels_beyond_twelve_are_left_out():
    types = tuple(sorted(("Acinar", "B_Cell", "Ductal", "Endocrine", "Endothelial", "Fibroblast", "Macrophage", "Mast_Cell", "Monocyte")))
    types += ("NK_Cell", "Neutrophil", "Pericyte", "Plasma_Cell", "T_Cell")
    rows = [(f"G{i}", 1.0, 0.1 + 0.05 * i, 0.0) for i in range(14)]
    (record,) = collect(markers=table("a", rows), panel=Panel(types, np.eye(14)), genes=[f"G{i}" for i in range(14)])
    assert [support.label for support in record.support] == list(types[:1:-1])
    assert len(record.admissible) == 14


@pytest.mark.parametrize("first", [0, 1, "x"])
def test_names_of_clusters_change_nothing_but_the_name(first):
    names = [first, first + 1] if isinstance(first, int) else ["x", "y"]
    markers = pd.concat([table(names[0]), table(names[1], ROWS[1:])])
    programs = pd.DataFrame({"cluster": [names[1]], "name": ["t"], "q_value": [0.01], "genes": ["DCN"]})
    found = collect(markers=markers, sizes=dict.fromkeys(names, 50), programs=programs, compositions={names[0]: {"T_Cell": 1.0}})
    reference = collect("p", table("p"), compositions={"p": {"T_Cell": 1.0}})[0]
    assert [record.cluster for record in found] == [str(name) for name in names]
    assert found[0].to_json().replace(f'"cluster":"{names[0]}"', '"cluster":"p"') == reference.to_json()
    assert [program.name for program in found[1].programs] == ["t"]


def test_tables_that_count_from_one_and_from_zero_are_refused():
    programs = pd.DataFrame({"cluster": [1, 2], "name": ["t", "t"], "q_value": [0.01, 0.01], "genes": ["DCN", "DCN"]})
    with pytest.raises(UserError, match="programs: cluster: '2' has no cells"):
        collect(0, sizes={0: 5, 1: 5}, programs=programs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"markers": table("a", [("CD4", 1, 1, 0)])}, "markers: gene: 'CD4' is not on the panel"),
        ({"markers": table("a", [("CD3D", np.inf, 1, 0)])}, "markers: log2fc: a value is not finite"),
        ({"markers": table("b")}, "markers: cluster: 'b' has no cells"),
        (
            {"programs": pd.DataFrame({"cluster": ["a"], "name": ["t"], "q_value": [np.nan], "genes": ["DCN"]})},
            "programs: q_value: a value is not finite",
        ),
    ],
)
def test_errors_name_the_table_the_column_and_the_value(change, message):
    with pytest.raises(UserError, match=message):
        collect(**change)
