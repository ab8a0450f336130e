"""The rules rank by support, over the admissible labels and no others."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nuclass_pipeline.config.expression import ClusteringConfig
from nuclass_pipeline.expression.markers import rank_markers
from nuclass_pipeline.io import write_table
from nuclass_pipeline.knowledge.markers import read_markers, restrict_to_panel
from nuclass_pipeline.proposals.annotators import RulesAnnotator, null_support
from nuclass_pipeline.proposals.collect import collect_evidence
from nuclass_pipeline.proposals.evidence import ClusterEvidence, Support
from nuclass_pipeline.schemas import CLUSTERS

LABELS = ("B_Cell", "Fibroblast", "T_Cell")


def record(scores, admissible=LABELS):
    support = tuple(Support(label, "x", score, ()) for label, score in scores.items())
    return ClusterEvidence("a", 1, "human", "lung", (), support, (), {}, admissible)


def test_log_probabilities_by_hand():
    found = RulesAnnotator(temperature=0.1).rank(record({"T_Cell": 0.3, "B_Cell": 0.1}))
    total = np.log(np.exp(3) + np.exp(1) + 1)
    assert found == pytest.approx({"B_Cell": 1 - total, "Fibroblast": -total, "T_Cell": 3 - total})


def test_no_evidence_is_a_uniform_answer():
    assert RulesAnnotator().rank(record({})) == pytest.approx(dict.fromkeys(LABELS, -np.log(3)))
    assert RulesAnnotator().rank(record({}, ("T_Cell",))) == {"T_Cell": 0}


def test_order_plays_no_part():
    scores = {"T_Cell": 0.3, "B_Cell": 0.1}
    assert list(RulesAnnotator().rank(record(scores, LABELS[::-1])).items()) == list(RulesAnnotator().rank(record(scores)).items())


@pytest.fixture(scope="module")
def planted(draw_cells, markers_tsv, tmp_path_factory):
    """Return the inputs of the records of a slide whose clusters are the planted types, under numbers."""
    folder = tmp_path_factory.mktemp("planted")
    cells = draw_cells()
    cells.write_h5ad(folder / "counts.h5ad")
    types = sorted(cells.obs["truth"].unique())
    named = cells.obs["truth"].map({name: str(i) for i, name in enumerate(types)}).where(~cells.obs["poor"])
    clusters = pd.DataFrame({"cell_id": cells.obs_names, "cluster": named.to_numpy(), "umap_1": 0.0, "umap_2": 0.0})
    write_table(clusters, folder / "clusters.parquet", CLUSTERS)
    config = ClusteringConfig()
    rank_markers(counts=folder / "counts.h5ad", clusters=folder / "clusters.parquet", config=config, markers=folder / "markers.parquet")
    panel = restrict_to_panel(read_markers(markers_tsv), "lung", list(cells.var_names))
    return pd.read_parquet(folder / "markers.parquet"), named.value_counts(), panel, list(cells.var_names), types


@pytest.mark.parametrize("rename", [int, lambda name: int(name) + 1, lambda name: f"cluster {name}"], ids=["from 0", "from 1", "text"])
def test_planted_clusters_are_named_right_whatever_the_names_of_the_clusters(planted, rename):
    markers, sizes, panel, genes, types = planted
    records = collect_evidence(
        sizes={rename(name): n for name, n in sizes.items()},
        markers=markers.assign(cluster=markers["cluster"].map(rename)),
        panel=panel,
        genes=genes,
        organ="lung",
    )
    ranked = {record.cluster: RulesAnnotator().rank(record) for record in records}
    assert {name: max(found, key=found.get) for name, found in ranked.items()} == {str(rename(i)): name for i, name in enumerate(types)}
    assert all(found.keys() == set(panel.types) for found in ranked.values())


def test_the_null_support_lies_below_the_support_of_planted_clusters(planted):
    markers, sizes, panel, genes, _ = planted
    given = {"sizes": sizes.to_dict(), "markers": markers, "panel": panel, "genes": genes, "organ": "lung"}
    min_support = null_support(**given)
    assert min_support == null_support(**given)
    assert min(record.support[0].score for record in collect_evidence(**given)) > min_support


def test_a_permuted_table_rarely_reaches_the_null_support(planted):
    """With permuted rows of the marker table, at least 95 % of the clusters have less support."""
    markers, sizes, panel, genes, _ = planted
    given = {"sizes": sizes.to_dict(), "markers": markers, "genes": genes, "organ": "lung"}
    rng = np.random.default_rng(1)
    weak = []
    for _ in range(12):
        permuted = replace(panel, weights=rng.permutation(panel.weights))
        min_support = null_support(panel=permuted, **given, permutations=30)
        records = collect_evidence(panel=permuted, **given)
        weak += [max((s.score for s in record.support), default=0) < min_support for record in records]
    assert np.mean(weak) >= 0.95
