"""Proposals name planted clusters, whatever those are called, and show the evidence."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from nuclass_pipeline.config.expression import ClusteringConfig
from nuclass_pipeline.config.labeling import ProposalsConfig
from nuclass_pipeline.expression.markers import rank_markers
from nuclass_pipeline.io import read_table, write_table
from nuclass_pipeline.knowledge.markers import admissible
from nuclass_pipeline.proposals.annotators import RulesAnnotator
from nuclass_pipeline.proposals.evidence import ClusterEvidence, MarkerGene, Program, Support
from nuclass_pipeline.proposals.propose import PROPOSAL_COLUMNS, propose, propose_labels
from nuclass_pipeline.schemas import CLUSTERS, LABELS, MARKERS, PROGRAMS
from nuclass_pipeline.vocabulary import UNRESOLVED
from tests.unit.planted_types import PLANTED_GENES
from tests.unit.proposals.tiny_language_model import write_model


@pytest.fixture(scope="module")
def review(slide, label, tmp_path_factory):
    """Return a folder with the tables that proposals are made from; every fourth cell has another label."""
    folder = tmp_path_factory.mktemp("review")
    labels = label(folder)
    labels.loc[::4, ["label", "candidate"]] = "Mast_Cell"
    write_table(labels, folder / "labels.parquet", LABELS)
    write_table(pd.read_parquet(slide / "clusters.parquet"), folder / "clusters.parquet", CLUSTERS)
    files = {"counts": slide / "counts.h5ad", "clusters": slide / "clusters.parquet", "markers": folder / "markers.parquet"}
    rank_markers(**files, config=ClusteringConfig())
    return folder


@pytest.fixture(scope="module")
def labels(review):
    return read_table(review / "labels.parquet", LABELS)


def proposals(folder, counts, knowledge, out, config=None, **more):
    tables = {name: folder / f"{name}.parquet" for name in ("clusters", "markers", "labels")}
    propose_labels(
        counts=counts,
        **tables,
        **more,
        knowledge=knowledge,
        organ="lung",
        config=config or ProposalsConfig(),
        threads=1,
        proposals=out / "proposals.tsv",
    )
    return pd.read_csv(out / "proposals.tsv", sep="\t", dtype={"cluster": str, "digest": str}, keep_default_na=False)


@pytest.fixture(scope="module")
def proposed(review, slide, markers_tsv, tmp_path_factory):
    return proposals(review, slide / "counts.h5ad", markers_tsv, tmp_path_factory.mktemp("proposed"))


@pytest.fixture(scope="module")
def truth(slide):
    """Return the planted type of each cluster."""
    clusters = pd.read_parquet(slide / "clusters.parquet").set_index("cell_id")["cluster"].dropna()
    planted = ad.read_h5ad(slide / "counts.h5ad").obs["truth"].astype(str)
    return planted[clusters.index].groupby(clusters).agg(lambda types: types.mode()[0])


def test_every_proposal_is_the_planted_type(proposed, truth):
    assert set(truth) == set(PLANTED_GENES)
    assert dict(zip(proposed["cluster"], proposed["proposal"], strict=True)) == truth.to_dict()
    assert (proposed["n_cells"].diff().dropna() <= 0).all()


def test_the_evidence_shown_is_that_of_the_tables(proposed, review, labels):
    assert list(proposed.columns) == list(PROPOSAL_COLUMNS)
    markers = read_table(review / "markers.parquet", MARKERS)
    for row in proposed.itertuples():
        best = markers[(markers["cluster"] == row.cluster) & (markers["rank"] == 1)].iloc[0]
        assert row.markers.split("; ")[0] == f"{best['gene']} {best['log2fc']:.1f}"
        inside = labels.loc[labels["cluster"] == row.cluster, "label"]
        assert row.n_cells == len(inside)
        assert 0.5 < (inside == inside.mode()[0]).mean() < 0.9
        assert row.cell_labels.split("; ")[0] == f"{inside.mode()[0]} {(inside == inside.mode()[0]).mean():.0%}".replace("%", " %")
        assert set(row.support.split(", ")) <= set(markers.loc[markers["cluster"] == row.cluster, "gene"])
        assert row.rationale.startswith(f"{row.proposal}: ")
        assert row.probability > float(row.runner_up.split()[1])


@pytest.mark.parametrize("rename", [lambda i: str(i), lambda i: str(i + 1), lambda i: f"cluster {9 - i}"], ids=["0", "1", "text"])
def test_names_of_clusters_play_no_part(proposed, review, slide, markers_tsv, tmp_path, rename):
    for name, schema in (("clusters", CLUSTERS), ("markers", MARKERS), ("labels", LABELS)):
        table = read_table(review / f"{name}.parquet", schema)
        names = table["cluster"].map(lambda cluster: rename(int(cluster)), na_action="ignore")
        write_table(table.assign(cluster=names), tmp_path / f"{name}.parquet", schema)
    renamed = proposals(tmp_path, slide / "counts.h5ad", markers_tsv, tmp_path)
    assert list(renamed["cluster"]) == [rename(int(name)) for name in proposed["cluster"]]
    pd.testing.assert_frame_equal(renamed.drop(columns="cluster"), proposed.drop(columns="cluster"))


def test_programs_are_shown_and_their_absence_is_not_shown_as_one(review, slide, markers_tsv, tmp_path):
    empty = {column.name: "" if column.kind == "text" else 0 for column in PROGRAMS.columns}
    rows = [
        {"cluster": "0", "rank": 1, "name": "defence", "q_value": 0.01, "genes": "CD2;LTB"},
        {"cluster": "1", "rank": 0, "name": "no reliable program", "q_value": np.nan},
    ]
    write_table(pd.DataFrame([empty | row for row in rows]), tmp_path / "programs.parquet", PROGRAMS)
    found = proposals(review, slide / "counts.h5ad", markers_tsv, tmp_path, programs=tmp_path / "programs.parquet").set_index("cluster")
    assert found["programs"]["0"] == "defence (q 0.01: CD2, LTB)"
    assert (found["programs"].drop("0") == "").all()


def test_a_proposal_by_hand():
    markers = (MarkerGene("CD3D", 3.24, 0.9, 0.1, 1), MarkerGene("MS4A1", 1.0, 0.4, 0.2, 2))
    support = (Support("T_Cell", "Lymphoid", 0.2, ("CD3D",)), Support("B_Cell", "Lymphoid", 0.1, ("MS4A1",)))
    shares = {"B_Cell": 0.19, "T_Cell": 0.805, "NK_Cell": 0.005}
    evidence = ClusterEvidence("a", 9, "human", "lung", markers, support, (Program("x", 0.5, ("CD3D",)),), shares, ("B_Cell", "T_Cell"))
    assert propose(evidence, RulesAnnotator(0.1)) == (
        "T_Cell",
        "0.731",  # e² / (e² + e)
        "B_Cell 0.269",
        "T_Cell 80 %; B_Cell 19 %",
        "CD3D 3.2; MS4A1 1.0",
        "CD3D",
        "x (q 0.5: CD3D)",
        "T_Cell: of its markers, CD3D are up in this cluster (support 0.20).",
    )
    assert propose(evidence.without_evidence(), RulesAnnotator())[:3] == (UNRESOLVED, "0.500", "T_Cell 0.500")


def test_no_marker_on_the_panel_means_no_proposal(review, slide, markers_tsv, tmp_path):
    knowledge = tmp_path / "markers.tsv"
    knowledge.write_text("".join(line.replace("\t", "\tNO", 1) if i else line for i, line in enumerate(markers_tsv.open())))
    found = proposals(review, slide / "counts.h5ad", knowledge, tmp_path)
    assert set(found["proposal"]) == {UNRESOLVED}
    assert set(found["support"]) == {""}


def test_a_cluster_whose_markers_are_all_down_gets_no_proposal(review, slide, markers_tsv, tmp_path):
    """With one type on the panel, its probability is 1 whatever the evidence, so only the support can withhold the proposal."""
    knowledge = tmp_path / "markers.tsv"
    header, *rows = markers_tsv.read_text().splitlines()
    knowledge.write_text("\n".join([header, *(row for row in rows if row.startswith("T_Cell\t"))]) + "\n")
    for name, schema in (("clusters", CLUSTERS), ("labels", LABELS)):
        write_table(read_table(review / f"{name}.parquet", schema), tmp_path / f"{name}.parquet", schema)
    markers = read_table(review / "markers.parquet", MARKERS)
    write_table(markers.assign(log2fc=-markers["log2fc"]), tmp_path / "markers.parquet", MARKERS)
    found = proposals(tmp_path, slide / "counts.h5ad", knowledge, tmp_path)
    assert set(found["probability"]) == {1.0}
    assert set(found["proposal"]) == {UNRESOLVED}
    assert set(found["markers"]) == set(found["support"]) == {""}


def test_the_cell_labels_are_labels_and_not_candidates_unless_a_person_set_them(review, slide, markers_tsv, tmp_path):
    for name, schema in (("clusters", CLUSTERS), ("markers", MARKERS)):
        write_table(read_table(review / f"{name}.parquet", schema), tmp_path / f"{name}.parquet", schema)
    labels = read_table(review / "labels.parquet", LABELS)
    first = labels["cluster"] == "0"
    labels.loc[first, ["label", "candidate", "reason"]] = (UNRESOLVED, "T_Cell", "weak support")
    edited = first & (np.arange(len(labels)) % 2 == 0)
    labels.loc[edited, ["label", "candidate", "source"]] = ("Acinar", "B_Cell", "edit")
    write_table(labels, tmp_path / "labels.parquet", LABELS)
    found = proposals(tmp_path, slide / "counts.h5ad", markers_tsv, tmp_path).set_index("cluster")["cell_labels"]["0"]
    share = edited.sum() / first.sum()
    expected = sorted([(share, "B_Cell"), (1 - share, UNRESOLVED)], key=lambda item: (-item[0], item[1]))
    assert found == "; ".join(f"{name} {part * 100:.0f} %" for part, name in expected)


def test_a_slide_without_clusters_has_no_proposals(review, slide, markers_tsv, tmp_path):
    for name, schema in (("clusters", CLUSTERS), ("labels", LABELS)):
        write_table(read_table(review / f"{name}.parquet", schema).assign(cluster=None), tmp_path / f"{name}.parquet", schema)
    write_table(read_table(review / "markers.parquet", MARKERS)[:0], tmp_path / "markers.parquet", MARKERS)
    assert proposals(tmp_path, slide / "counts.h5ad", markers_tsv, tmp_path).empty


def test_a_language_model_proposes_admissible_labels_only(review, slide, markers_tsv, tmp_path):
    config = ProposalsConfig(annotator="llm-score", model=str(write_model(tmp_path / "model")))
    found = proposals(review, slide / "counts.h5ad", markers_tsv, tmp_path, config)
    assert len(found) == len(PLANTED_GENES)
    assert set(found["proposal"]) <= set(admissible("lung"))
    assert all(row.rationale.startswith(f"{row.proposal}: ") for row in found.itertuples())
    repeated = proposals(review, slide / "counts.h5ad", markers_tsv, tmp_path, config)
    pd.testing.assert_frame_equal(found, repeated)
    rules = proposals(review, slide / "counts.h5ad", markers_tsv, tmp_path)
    assert not np.allclose(found["probability"], rules["probability"], atol=0.01)


def test_a_permuted_marker_table_leaves_clusters_unresolved(review, slide, markers_tsv, tmp_path):
    """With the genes of the panel permuted ten times, at least 95 % of the clusters are Unresolved."""
    rows = [line.split("\t") for line in markers_tsv.read_text().splitlines()]
    panel = sorted(ad.read_h5ad(slide / "counts.h5ad").var_names)
    found = []
    for seed in range(10):
        permuted = dict(zip(panel, np.random.default_rng(seed).permutation(panel), strict=True))
        knowledge = tmp_path / f"markers{seed}.tsv"
        knowledge.write_text("".join("\t".join([row[0], permuted.get(row[1], row[1]), *row[2:]]) + "\n" for row in rows))
        found += list(proposals(review, slide / "counts.h5ad", knowledge, tmp_path)["proposal"])
    assert len(found) == 70
    assert np.mean(np.array(found) == UNRESOLVED) >= 0.95
