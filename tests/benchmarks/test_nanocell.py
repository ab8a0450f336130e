"""The public tool's arithmetic agrees with its own output on 23 clusters of one tissue array, and a slide is compared by hand."""

import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import nanocell
from nuclass_pipeline.io import write_table
from nuclass_pipeline.knowledge.markers import TYPES, Marker, read_markers
from nuclass_pipeline.proposals.propose import PROPOSAL_COLUMNS
from nuclass_pipeline.schemas import CLUSTERS, MARKERS, TRUTH
from tests import ROOT

# cluster, cells, status, reason, confidence, best label and score, second label and score, coverage, margin, entropy
PUBLISHED = """
1 29921 HIGH accepted .7121|t cell 5.660721|b cell 3.681732|1.00 .3496 1.3200
2 16679 AMBIGUOUS small_margin .5679|cholangiocyte 5.068786|basal cell 4.771368|1.00 .0587 1.4845
3 12309 MEDIUM accepted .5898|adipocyte 5.815912|normal cell 4.385517|0.60 .2459 1.1893
4 10522 HIGH accepted .8867|normal cell 10.667269|cholangiocyte 2.338249|.95 .7808 .0108
5 10090 AMBIGUOUS small_margin .3528|normal cell 1.680991|hepatic stellate cell 1.363082|.95 .1891 2.5545
6 9271 HIGH accepted .8365|normal cell 5.991108|cajal retzius cell 2.521597|.85 .5791 .6638
7 8775 AMBIGUOUS small_margin .4008|hematopoietic stem cell 2.890382|normal cell 2.682867|.90 .0718 2.4768
8 8211 HIGH accepted .7802|hepatocyte 6.251463|normal cell 3.987215|1.00 .3622 .8678
9 7960 HIGH accepted .8867|normal cell 9.630941|alpha cell 4.137670|.95 .5704 .0548
10 7906 HIGH accepted .8498|normal cell 6.438761|epithelial cell 2.701156|.90 .5805 .6618
11 7862 AMBIGUOUS small_margin .7091|normal cell 7.122891|hepatocyte 5.784951|1.00 .1878 .7806
12 7384 AMBIGUOUS high_entropy .6315|normal cell 5.052333|hepatocyte 3.724122|.95 .2629 1.5673
13 6896 HIGH accepted .8867|normal cell 8.545105|fibroblast 3.702985|.95 .5667 .1334
14 6292 AMBIGUOUS high_entropy .5937|alpha cell 4.809767|acinar cell 3.754101|.95 .2195 1.7275
15 5767 AMBIGUOUS small_margin .5209|alpha cell 4.288510|oligodendrocyte 3.563457|.85 .1691 2.1068
16 5400 AMBIGUOUS small_margin .5652|enterocyte 5.541876|normal cell 4.860022|1.00 .1230 1.7340
17 5396 AMBIGUOUS small_margin .6474|normal cell 8.262302|airway goblet cell 7.654938|1.00 .0735 .8438
18 4975 HIGH accepted .9000|normal cell 10.225804|acinar cell 3.381274|1.00 .6693 .0287
19 4926 AMBIGUOUS small_margin .4626|dendritic cell 3.281005|acinar cell 2.967913|1.00 .0954 2.2599
20 4757 AMBIGUOUS high_entropy .6007|acinar cell 4.736235|normal cell 3.487967|.95 .2636 1.8094
21 4217 HIGH accepted .8958|normal cell 11.755508|airway goblet cell 5.977186|1.00 .4915 .0288
22 3723 AMBIGUOUS high_entropy .5656|basal cell 4.264682|normal cell 3.376882|1.00 .2082 2.3004
23 1886 AMBIGUOUS small_margin .4128|acinar cell 2.803832|normal cell 2.612144|1.00 .0684 1.9940
"""
# Two runs of the tool's language model: evidence from gene programs, and from markers.
LABELS = {
    "programs": """T Cell|CHOL|Hepatocyte|CHOL|Hepatocyte|Macrophage/Monocyte|CHOL|CHOL|CHOL|Hepatocyte|Hepatocyte|CHOL|T Cell|None
        |Mesenchymal progenitors|Hepatocyte|Hepatocyte|CHOL|Stroma|Hepatocyte|CHOL|Hepatocyte|Macrophage / Monocyte""",
    "markers": """T Cell|Ambiguous|Hepatocyte|CHOL|Ambiguous|Fibroblast / Stroma|Hematopoietic stem cells|Hepatocyte|Ambiguous
        |Epithelial cells|Hepatocyte|Hepatocyte|CHOL|Hepatocyte|Neuron|Ambiguous|Epithelial Cells|Fibroblast / Stroma|Hepatocyte
        |Hepatocyte|Epithelial Cells|Epithelial Cells|Hepatocyte""",
}
LABELS = {
    name: [label.strip().replace("CHOL", "Cholangiocyte (Reactive/EMT-like)") for label in text.split("|")] for name, text in LABELS.items()
}


def parse(line):
    head, first, second, tail = line.split("|")
    cluster, cells, status, reason, value = head.split()
    (best, s1), (other, s2) = first.rsplit(" ", 1), second.rsplit(" ", 1)
    coverage, margin, entropy = map(float, tail.split())
    return (int(cluster), int(cells), status, reason, float(value), best, float(s1), other, float(s2), coverage, margin, entropy)


ROWS = [parse(line) for line in PUBLISHED.strip().splitlines()]
CELLS = [row[1] for row in ROWS]


def decision(row):
    return nanocell.decide(row[6], row[8], row[9], row[11])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row[0]))
def test_each_cluster_to_the_printed_digits(row):
    _, _, status, reason, value, _, s1, _, s2, coverage, margin, entropy = row
    assert abs(nanocell.margin(s1, s2) - margin) <= 0.5001e-4
    assert abs(nanocell.confidence(s1, (s1 - s2) / s1, coverage, entropy) - value) <= 0.5001e-4
    found = decision(row)
    assert (found.status, found.reason) == (status, reason)
    assert abs(found.confidence - value) <= 0.5001e-4


def test_totals():
    decisions = [decision(row) for row in ROWS]
    status = [found.status for found in decisions]
    reason = [found.reason for found in decisions]
    assert [status.count(name) for name in ("HIGH", "MEDIUM", "AMBIGUOUS", "UNRESOLVED")] == [9, 1, 13, 0]
    assert [reason.count(name) for name in ("accepted", "small_margin", "high_entropy")] == [10, 9, 4]
    assert sum(CELLS) == 191125
    shares = [100 * sum(n for n, name in zip(CELLS, status, strict=True) if name == s) / 191125 for s in ("HIGH", "MEDIUM", "AMBIGUOUS")]
    assert shares == pytest.approx([47.0, 6.4, 46.5], abs=0.05)
    assert max(found.confidence for found in decisions) == pytest.approx(0.90)
    accepted = [row[5] for row, name in zip(ROWS, status, strict=True) if name == "HIGH"]
    assert (accepted.count("normal cell"), accepted.count("t cell"), accepted.count("hepatocyte")) == (7, 1, 1)


def test_clusters_counted_from_zero_lose_one_that_was_high():
    shifted = nanocell.decide(ROWS[0][6], ROWS[0][8], ROWS[0][9], 1.4029)
    assert (shifted.status, shifted.reason) == ("AMBIGUOUS", "high_entropy")
    status = [shifted.status, *(decision(row).status for row in ROWS[1:])]
    assert (status.count("HIGH"), status.count("AMBIGUOUS")) == (8, 14)


@pytest.mark.parametrize(
    ("labels", "min_confidence", "first", "kept"),
    [
        ("programs", 0.0, 34.00, 100),
        ("programs", nanocell.MODERATE, 39.28, 86.6),
        ("programs", nanocell.HIGH, 49.42, 51.1),
        ("markers", 0.0, 42.16, 100),
        ("markers", nanocell.MODERATE, 43.40, 86.6),
        ("markers", nanocell.HIGH, 65.91, 51.1),
    ],
)
def test_agreement_with_the_first_candidate(labels, min_confidence, first, kept):
    rows = [i for i, row in enumerate(ROWS) if decision(row).confidence >= min_confidence]
    cells = [CELLS[i] for i in rows]
    candidates = [(ROWS[i][5], ROWS[i][7]) for i in rows]
    found = nanocell.agreement([LABELS[labels][i] for i in rows], candidates, cells, 1)
    assert 100 * found == pytest.approx(first, abs=0.005)
    assert 100 * sum(cells) / sum(CELLS) == pytest.approx(kept, abs=0.05)


def test_agreement_with_labels_one_cluster_off():
    candidates = [(row[5], row[7]) for row in ROWS]
    found = nanocell.agreement(["", *LABELS["programs"][:-1]], candidates, CELLS, 1)
    assert 100 * found == pytest.approx(7.98, abs=0.005)


def test_agreement_grows_with_the_candidates_allowed():
    candidates = [["other", "b cell", "t cell", "nk cell"], ["mast cell"]]
    assert [nanocell.agreement(["T cells", "NK"], candidates, [30, 10], k) for k in (1, 2)] == [0, 0.75]


def test_the_two_label_files_agree_on_five_clusters():
    pairs = zip(LABELS["programs"], LABELS["markers"], strict=True)
    assert [i for i, (a, b) in enumerate(pairs, start=1) if a == b] == [1, 3, 4, 11, 20]


@pytest.mark.parametrize(
    ("inputs", "weight"),
    [
        ((2.5, 0.5, 0.0, 1e-6), 3.25),
        ((9.0, 1.0, 0.0, 1e-300), 3.25),
        ((9.0, 1.0, 0.0, 0.0), 2.5),
        ((-1.76, 0.1, 0.6, 1e-50), 0.75),
        ((1.25, 0.35, 0.1, 1e-3), 0.75 + 0.5 + 0.375),
        ((None, 0.35, 0.1, None), 0.5),
        ((1.25, 0.35, None, None), 0.75),
        ((None, None, None, None), 0),
    ],
)
def test_the_weight_of_a_marker(inputs, weight):
    assert nanocell.marker_weight(*inputs) == pytest.approx(weight)


@pytest.mark.parametrize(("match", "weight", "whole"), [(100, 1, 2.0), (90, 0.5, 1.6), (85, 0.25, 1.4), (80, 0, 1.2), (0, 0, 1.2)])
def test_a_poor_match_costs_up_to_two_fifths(match, weight, whole):
    assert nanocell.database_weight(match) == pytest.approx(weight)
    assert nanocell.contribution(2, match) == pytest.approx(whole)


def test_scores_add_up_by_label_and_grow_with_the_lineage_signal():
    contributions = [("T cells", 1.5), ("T cell", 0.5), (None, 9.0), ("Mast cells", 1.0)]
    assert nanocell.label_scores(contributions) == pytest.approx({"t cell": 2.0, "mast cell": 1.0})
    assert nanocell.label_scores(contributions, {"immune": 0.6, "other": 0.4}) == pytest.approx({"t cell": 2.06, "mast cell": 1.03})
    assert nanocell.label_scores([]) == {}


def test_a_cluster_from_its_scores():
    scores = {"t cell": 3.0, "b cell": 1.0, "mast cell": 1.0}
    p = np.exp([3, 1, 1]) / np.exp([3, 1, 1]).sum()
    entropy = -(p * np.log(p)).sum()
    found = nanocell.decide_cluster(scores, 0.7)
    expected = (0.45 * 3 / 4 + 0.25 + 0.2 * 0.45 / 0.75) * (1 - 0.25 * (entropy - 0.5) / 1.5)
    assert found == nanocell.Decision("HIGH" if expected >= 0.7 else "MEDIUM", "accepted", pytest.approx(expected))
    assert nanocell.rank(scores) == ["t cell", "b cell", "mast cell"]


@pytest.mark.parametrize(
    ("scores", "coverage", "status", "reason"),
    [
        ({}, 1.0, "UNRESOLVED", "no_scores"),
        ({"a": 9.0}, 0.249, "UNRESOLVED", "low_coverage"),
        ({"a": 9.0}, 0.25, "HIGH", "accepted"),
        ({"a": 3.9}, 0.25, "MEDIUM", "accepted"),
        ({"a": 9.0}, 1.0, "HIGH", "accepted"),
        ({"a": 1.2499, "b": 1.2}, 1.0, "AMBIGUOUS", "low_top_score"),
        ({"a": 1.25, "b": 1.01}, 1.0, "AMBIGUOUS", "small_margin"),
        ({"a": 1.25, "b": 0.9, "c": 0.9, "d": 0.9}, 1.0, "AMBIGUOUS", "high_entropy"),
        ({"a": 1.25, "b": 0.9}, 1.0, "MEDIUM", "accepted"),
    ],
)
def test_the_first_objection_counts(scores, coverage, status, reason):
    found = nanocell.decide_cluster(scores, coverage)
    assert (found.status, found.reason) == (status, reason)
    assert (found.confidence == 0) == (status == "UNRESOLVED")


@given(st.floats(0, 1e4), st.floats(0, 1), st.floats(0, 1), st.floats(0, 10))
def test_confidence_never_exceeds_nine_tenths(first, gap, coverage, entropy):
    value = nanocell.confidence(first, gap, coverage, entropy)
    assert 0 <= value <= 0.9 + 1e-12
    assert value <= nanocell.confidence(4, 0.5, 1, 0.5) + 1e-12 == pytest.approx(0.9)
    assert nanocell.tier(value) == ("High" if value >= 0.7 else "Moderate" if value >= 0.5 else "Low")


def test_tiers_admit_clusters_that_the_decision_rejected():
    rejected = [row[0] for row in ROWS if decision(row).status == "AMBIGUOUS" and nanocell.tier(decision(row).confidence) == "High"]
    assert rejected == [11]


@pytest.mark.parametrize(
    ("label", "key"),
    [
        ("T Cells", "t cell"),
        ("Ambiguous", "ambiguou"),
        ("Müller cells", "m ller cell"),
        ("Fibroblast / Stroma", "fibroblast stroma"),
        ("Cholangiocyte (Reactive/EMT-like)", "cholangiocyte"),
        ("Cajal-Retzius cells", "cajal retzius cell"),
    ],
)
def test_keys_of_labels(label, key):
    assert nanocell.canonical(label) == key


@pytest.mark.parametrize(
    ("label", "lineage", "signal", "expected"),
    [
        ("T cell", "immune", {"immune": 0.8, "other": 0.2}, (0.75, 1, 0.7625, "ok")),
        ("B cell", "immune", {"immune": 0.1, "other": 0.9}, (0.5, 2, 0.4, "slim_inconsistent")),
        ("Mast cell", "immune", {"immune": 0.1}, (0.25, 3, 0.2125, "weak")),
        ("Neuron", "immune", {"immune": 1.0}, (0.0, -1, 0.25, "not_in_candidates")),
        # Without gene programs all mass is on "other", and an abstention earns a quarter.
        ("Ambiguous", "other", {"other": 1.0}, (0.0, -1, 0.25, "not_in_candidates")),
        ("B cell", "other", {}, (0.5, 2, 0.375, "ok")),
    ],
)
def test_audit_of_a_label(label, lineage, signal, expected):
    found = nanocell.audit(label, {"t cell": 3.0, "b cell": 2.0, "mast cell": 1.0}, lineage, signal)
    assert (found.support, found.rank, found.combined, found.flag) == (expected[0], expected[1], pytest.approx(expected[2]), expected[3])


def test_types_have_different_keys():
    assert len({nanocell.canonical(name) for name in TYPES}) == len(TYPES)


def test_a_gene_has_its_heaviest_type_in_the_organ_and_the_first_of_a_tie():
    lung, breast = frozenset({"lung"}), frozenset({"breast"})
    rows = [
        ("B_Cell", "A", 1, lung),
        ("T_Cell", "A", 3, lung),
        ("NK_Cell", "A", 3, lung),
        ("Mast_Cell", "A", 2, lung),
        ("T_Cell", "B", 1, breast),
        ("T_Cell", "C", -2, lung),
        ("Hepatocyte", "D", 3, lung),
        ("NK_Cell", "D", 1, lung),
    ]
    found = nanocell.gene_labels([Marker(*row, "x") for row in rows], "lung")
    assert found == {"A": "T_Cell", "D": "NK_Cell"}


def marker_rows(cluster, *rows):
    frame = pd.DataFrame(rows, columns=["gene", "log2fc", "fraction_in", "fraction_out", "p_adjusted"])
    return frame.assign(cluster=cluster, rank=range(1, len(rows) + 1), score=1.0)


def test_published_scores_by_hand():
    rows = marker_rows("0", ("CD3D", 2.5, 0.5, 0.0, 1e-6), ("CD19", 1.25, 0.25, 0.0, 0.0), ("XYZ", 9.0, 1.0, 0.0, 1e-6))
    scores, coverage = nanocell.published_scores(rows, {"CD3D": "T_Cell", "CD19": "B_Cell"})
    # Without gene programs all scores grow by 5 %, and a p value of 0 adds nothing.
    assert scores == pytest.approx({"t cell": 1.05 * 3.25, "b cell": 1.05 * (0.75 + 0.5)})
    assert coverage == pytest.approx(2 / 3)
    assert nanocell.published_scores(rows[:0], {}) == ({}, 0)


def test_twenty_markers_count_by_p_value_and_then_fold_change():
    rows = [*((f"G{i}", 2.5, 0.5, 0.0, 1e-6) for i in range(19)), ("LOW", 1.0, 0.5, 0.0, 1e-6), ("P", 5.0, 0.5, 0.0, 1e-5)]
    rows.append(("UP", 3.0, 0.5, 0.0, 1e-6))
    labels = {"LOW": "T_Cell", "P": "B_Cell", "UP": "NK_Cell"}
    scores, coverage = nanocell.published_scores(marker_rows("0", *rows), labels)
    assert list(scores) == ["nk cell"]
    assert coverage == pytest.approx(1 / 20)


@pytest.fixture
def slide(tmp_path):
    """Return the folder of a slide with three clusters: T cells that both rules name, B cells, and cells without a marker."""
    genes = {"0": ("CD3D", "CD3E", "CD3G", "TRAC"), "1": ("CD3D", "CD3E", "CD3G")}
    markers = pd.concat([marker_rows(name, *((gene, 2.5, 0.6, 0.0, 1e-6) for gene in listed)) for name, listed in genes.items()])
    write_table(markers, tmp_path / "markers.parquet", MARKERS)
    clusters = ["0"] * 5 + ["1"] * 3 + ["2"] * 2 + [None]
    cells = pd.DataFrame({"cell_id": [f"c{i}" for i in range(11)], "cluster": clusters, "umap_1": 0.0, "umap_2": 0.0})
    write_table(cells, tmp_path / "clusters.parquet", CLUSTERS)
    labels = ["T_Cell"] * 5 + ["B_Cell"] * 3 + ["Mast_Cell", "Acinar", "T_Cell"]
    truth = pd.DataFrame({"cell_id": cells["cell_id"], "label": labels, "niche": "x", "poor": False})
    write_table(truth, tmp_path / "truth.parquet", TRUTH)
    empty = dict.fromkeys(PROPOSAL_COLUMNS, "")
    rows = [("0", 5, "T_Cell", 0.9), ("1", 3, "B_Cell", 0.5), ("2", 2, "Unresolved", 0.1)]
    named = [empty | dict(zip(("cluster", "n_cells", "proposal", "probability"), row, strict=True)) for row in rows]
    pd.DataFrame(named).to_csv(tmp_path / "proposals.tsv", sep="\t", index=False)
    return tmp_path


def test_a_slide_is_compared_cluster_by_cluster(slide):
    found = nanocell.compare_slide(slide, "lung", ROOT / "config/markers.tsv", slide / "truth.parquet").set_index("cluster")
    assert nanocell.gene_labels(read_markers(ROOT / "config/markers.tsv"), "lung")["CD3D"] == "T_Cell"
    assert found["truth"].tolist() == ["T_Cell", "B_Cell", ""]
    assert found["published"].tolist() == ["T_Cell", "T_Cell", ""]
    assert found["status"].tolist() == ["HIGH", "HIGH", "UNRESOLVED"]
    # One label alone has margin 1 and entropy 0, and all markers have it: the highest confidence there is.
    assert found["confidence"].tolist() == pytest.approx([0.9, 0.9, 0])
    assert found["tier"].tolist() == ["High", "High", "Low"]
    assert found["rank of ours"].tolist() == [1, -1, -1]
    rows = {row[0]: row[1:] for row in nanocell.truth_rows(found)}
    assert rows["our proposals"] == ("2 of 2", "2 of 2", "1.000", "1.000")
    assert rows["published, accepted"] == rows["published, best label"] == ("2 of 2", "1 of 2", "1.000", "0.625")
    shares = {row[0]: row[1:] for row in nanocell.self_consistency_rows(found)}
    assert shares["all"] == ("10", *["0.500"] * 4)
    assert shares["High"] == ("8", *["0.625"] * 4)


def test_the_benchmark_prints_three_tables(slide, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["nanocell.py", str(slide), "--organ", "lung", "--truth", str(slide / "truth.parquet")])
    nanocell.main()
    printed = capsys.readouterr().out
    assert all(title in printed for title in ("the published decisions", "Agreement with the truth", "first published candidates"))
    assert "0.900" in printed
    assert "0.625" in printed
