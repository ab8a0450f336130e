"""Each block of evidence has its planted effect, and an answer counts only if it names an admissible label."""

from dataclasses import replace
from functools import partial
from typing import ClassVar

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from nuclass_pipeline.config.expression import ClusteringConfig
from nuclass_pipeline.config.labeling import ProposalsConfig
from nuclass_pipeline.expression.markers import rank_markers
from nuclass_pipeline.io import read_table, write_table
from nuclass_pipeline.proposals.ablation import (
    ABLATIONS,
    AnnotatorVariant,
    annotator_variants,
    compare_annotators,
    compare_variants,
    free_text,
    leave_out,
    top_label,
)
from nuclass_pipeline.proposals.evidence import BLOCKS, ClusterEvidence, MarkerGene, Program, Support
from nuclass_pipeline.proposals.language_model import LanguageAnnotator
from nuclass_pipeline.schemas import ABLATION, CLUSTERS, MARKERS, TRUTH
from tests.unit.planted_types import PLANTED_GENES
from tests.unit.proposals.tiny_language_model import write_model

LABELS = ("B_Cell", "Fibroblast", "Macrophage", "T_Cell")
SHARES = ["invalid_rate", "permutation_stability", "abstained", "accuracy", "accuracy_cells"]


def record(label, n_cells=10, score=0.5, gene="CD3D"):
    return ClusterEvidence(
        cluster=f"of {label}",
        n_cells=n_cells,
        species="human",
        organ="lung",
        markers=(MarkerGene(gene, 2.0, 0.8, 0.1, 1),),
        support=(Support(label, "x", score, (gene,)),),
        programs=(Program("defence", 0.01, (gene,)),),
        composition={label: 1.0},
        admissible=LABELS,
    )


RECORDS = [record("B_Cell", 10), record("Fibroblast", 20), record("Macrophage", 30), record("T_Cell", 40)]
TRUE = {found.cluster: found.support[0].label for found in RECORDS}


def compared(records=RECORDS, truth=TRUE, min_support=0.1, variants=None):
    variants = annotator_variants(None) if variants is None else variants
    frame = compare_variants(records=records, reversed_records=records, min_support=min_support, truth=truth, variants=variants)
    ABLATION.check(frame, "ablation")
    return frame.set_index("evidence")


class FixedWriter:
    """A model that writes given texts, one prompt after another."""

    def __init__(self, *texts):
        self.texts, self.prompts = list(texts), []

    def write(self, prompt, max_tokens):
        self.prompts.append(prompt)
        return self.texts[len(self.prompts) - 1]


class FirstOption:
    """A model that prefers option A whenever it sees a gene."""

    symbols: ClassVar = {letter: ord(letter) for letter in "ABCDEFGH"}

    def encode(self, prompt):
        return [*map(ord, prompt)]

    def next_log_probs(self, sequences):
        rows = np.full((len(sequences), 128), -np.log(128))
        rows[["CD3D" in "".join(map(chr, tokens)) for tokens in sequences], ord("A")] += 3
        return rows


def test_the_comparisons_leave_out_one_block_each_or_all():
    assert list(ABLATIONS) == ["all", "without markers", "without support", "without programs", "without composition", "none"]
    whole = RECORDS[0]
    for block in BLOCKS:
        less = leave_out(whole, ABLATIONS[f"without {block}"])
        assert len(getattr(less, block)) == 0
        assert replace(less, **{block: getattr(whole, block)}) == whole
    assert leave_out(whole, ABLATIONS["none"]) == whole.without_evidence()
    assert leave_out(whole, ABLATIONS["all"]) == whole


def test_rules_need_support_and_nothing_else():
    found = compared()
    for name in ("all", "without markers", "without programs", "without composition"):
        assert found.loc[name, SHARES].tolist() == [0, 1, 0, 1, 1]
    for name in ("without support", "none"):
        assert found.loc[name, SHARES[:3]].tolist() == [0, 1, 1]
        assert found.loc[name, SHARES[3:]].isna().all()
    assert (found["n_clusters"] == 4).all()
    assert set(found["answer"]) == {"constrained"}


def test_agreement_by_hand():
    truth = TRUE | {"of Macrophage": "Monocyte", "of T_Cell": "T_Cell"}
    found = compared(truth=truth).loc["all"]
    assert (found["accuracy"], found["accuracy_cells"]) == (3 / 4, 70 / 100)
    truth.pop("of B_Cell")
    found = compared(truth=truth).loc["all"]
    assert (found["accuracy"], found["accuracy_cells"]) == (pytest.approx(2 / 3), pytest.approx(60 / 90))


def test_a_label_below_the_null_support_is_not_proposed():
    records = [*RECORDS[:3], record("T_Cell", 40, score=0.05)]
    found = compared(records, TRUE | {"of T_Cell": "B_Cell"}).loc["all"]
    assert (found["abstained"], found["accuracy"], found["accuracy_cells"]) == (1 / 4, 1, 1)


def test_the_null_support_is_compared_with_the_whole_record():
    variant = AnnotatorVariant("llm-score", "free", lambda _: "T_Cell", None)
    found = compared(min_support=0.1, variants=[variant])
    assert (found["abstained"] == 0).all()
    assert (found["accuracy"] == 1 / 4).all()
    assert (found["accuracy_cells"] == 40 / 100).all()


def test_without_truth_the_agreement_is_missing():
    found = compared(truth={})
    assert found["accuracy"].isna().all()
    assert found["accuracy_cells"].isna().all()
    assert found.loc["all", "abstained"] == 0


def test_no_clusters_have_no_shares():
    found = compared(records=[])
    assert (found["n_clusters"] == 0).all()
    assert found[SHARES].isna().all(axis=None)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("T cells.", "T_Cell"),
        ("\n T_Cell \n\nBecause CD3D is up.", "T_Cell"),
        ("CD8 T cells", "T_Cell"),
        ("Hepatocyte", "Hepatocyte"),
        ("Lymphoid", "Lymphoid"),
        ("T cell or B cell", "T cell or B cell"),
        ("T-cel", "T-cel"),
        ("Unresolved", "Unresolved"),
        ("", ""),
    ],
)
def test_free_text_counts_by_exact_name(text, label):
    writer = FixedWriter(text)
    assert free_text(writer, RECORDS[0]) == label
    assert "Options:" not in writer.prompts[0]
    assert "CD3D" in writer.prompts[0]


def test_text_outside_the_set_is_invalid_and_not_a_proposal():
    texts = ["B cell", "Fibroblasts", "Neuron", "Hepatocyte"]
    found = compared(variants=[AnnotatorVariant("llm-score", "free", partial(free_text, FixedWriter(*texts * 6)), None)])
    assert (found["invalid_rate"] == 1 / 2).all()
    assert (found["abstained"] == 1 / 2).all()
    assert (found["accuracy"] == 1).all()
    assert found["permutation_stability"].isna().all()


def test_a_preference_for_the_first_option_is_unstable_unless_averaged():
    once, averaged = (
        compared(
            variants=[
                AnnotatorVariant(
                    "llm-score",
                    "constrained",
                    partial(top_label, LanguageAnnotator(FirstOption(), rotations)),
                    partial(top_label, LanguageAnnotator(FirstOption(), rotations, reverse_options=True)),
                )
            ]
        ).loc["all"]
        for rotations in (1, None)
    )
    # Shown once, the first label wins, and of the reversed order the last; over all orders no label wins.
    assert once[SHARES].tolist() == [0, 0, 0, 1 / 4, 10 / 100]
    assert averaged[SHARES[:3]].tolist() == [0, 1, 1]


def test_a_model_gets_each_prompt_once():
    class Both(FirstOption, FixedWriter):
        pass

    model = Both(*["T cell"] * 99)
    compared([replace(found, programs=()) for found in RECORDS], variants=annotator_variants(model))
    # Without programs to leave out, four prompts on each cluster differ, and all clusters share the one without evidence.
    assert len(model.prompts) == len(set(model.prompts)) == 4 * 4 + 1


@pytest.fixture(scope="module")
def tables(slide, label, tmp_path_factory):
    """Return the arguments of the stage for the slide with planted types, without `ablation`."""
    folder = tmp_path_factory.mktemp("ablation")
    label(folder)
    files = {"counts": slide / "counts.h5ad", "clusters": slide / "clusters.parquet"}
    rank_markers(**files, config=ClusteringConfig(), markers=folder / "markers.parquet")
    planted = ad.read_h5ad(slide / "counts.h5ad").obs
    truth = pd.DataFrame({"cell_id": planted.index, "label": planted["truth"].astype(str), "niche": "x", "poor": planted["poor"]})
    write_table(truth.sample(frac=1, random_state=0), folder / "truth.parquet", TRUTH)
    more = {name: folder / f"{name}.parquet" for name in ("markers", "labels", "truth")}
    return files | more | {"organ": "lung", "config": ProposalsConfig(), "threads": 1}


@pytest.fixture
def stage(tables, markers_tsv, tmp_path):
    """Return a function that runs the stage; its arguments replace the usual ones."""

    def run(**other):
        compare_annotators(**(tables | {"knowledge": markers_tsv} | other), ablation=tmp_path / "ablation.parquet")
        return read_table(tmp_path / "ablation.parquet", ABLATION)

    return run


def test_planted_clusters_agree_with_their_truth(stage):
    found = stage().set_index("evidence")
    assert list(found.index) == list(ABLATIONS)
    assert (found["n_clusters"] == len(PLANTED_GENES)).all()
    for name in ("all", "without markers", "without programs", "without composition"):
        assert found.loc[name, SHARES].tolist() == [0, 1, 0, 1, 1]
    for name in ("without support", "none"):
        assert found.loc[name, SHARES[:3]].tolist() == [0, 1, 1]
        assert found.loc[name, SHARES[3:]].isna().all()
    assert stage(truth=None)[["accuracy", "accuracy_cells"]].isna().all(axis=None)


def test_the_truth_of_a_cluster_is_that_of_its_cells_that_are_not_poor(stage, tables, tmp_path):
    truth, clusters = read_table(tables["truth"], TRUTH), pd.read_parquet(tables["clusters"]).set_index("cell_id")["cluster"]
    inside = truth["cell_id"].map(clusters)
    wrong = truth.assign(label=truth["label"].where(inside != "0", "Mast_Cell"))

    def agreement(changed):
        write_table(changed, tmp_path / "truth.parquet", TRUTH)
        return stage(truth=tmp_path / "truth.parquet").set_index("evidence").loc["all", ["accuracy", "accuracy_cells"]].tolist()

    sizes = clusters.value_counts()
    assert agreement(wrong) == pytest.approx([6 / 7, 1 - sizes["0"] / sizes.sum()])
    assert agreement(wrong.assign(poor=wrong["poor"] | (inside == "0"))) == [1, 1]
    # Two labels that are equally common are not a truth, although one of them is the proposal.
    half = (inside == "0") & (inside.eq("0").cumsum() <= sizes["0"] // 2)
    assert sizes["0"] % 2 == 0
    assert agreement(truth.assign(label=truth["label"].mask(half, "Acinar"), poor=truth["poor"] & (inside != "0"))) == [1, 1]


def keep_clusters(tables, names, folder):
    """Write the tables with some of the clusters, and return their paths."""
    clusters, markers = read_table(tables["clusters"], CLUSTERS), read_table(tables["markers"], MARKERS)
    kept = clusters.assign(cluster=clusters["cluster"].where(clusters["cluster"].isin(names)))
    write_table(kept, folder / "clusters.parquet", CLUSTERS)
    write_table(markers[markers["cluster"].isin(names)], folder / "markers.parquet", MARKERS)
    return {name: folder / f"{name}.parquet" for name in ("clusters", "markers")}


def test_a_language_model_takes_part_if_the_run_file_names_one(stage, tables, tmp_path):
    config = ProposalsConfig(model=str(write_model(tmp_path / "model")))
    # Three of the seven clusters, because a model takes a second for each, and the stage runs twice.
    stage = partial(stage, **keep_clusters(tables, ["0", "1", "2"], tmp_path))
    found = stage(config=config)
    assert (found["n_clusters"] == 3).all()
    assert found.groupby(["annotator", "answer"]).size().to_dict() == {
        ("llm-score", "constrained"): 6,
        ("llm-score", "free"): 6,
        ("rules", "constrained"): 6,
    }
    free, choice = found[found["answer"] == "free"], found[found["annotator"].eq("llm-score") & found["answer"].eq("constrained")]
    assert (choice["invalid_rate"] == 0).all()
    assert choice["permutation_stability"].between(0, 1).all()
    assert choice.set_index("evidence").loc["none", SHARES[:3]].tolist() == [0, 1, 1]
    assert (free["invalid_rate"] == 1).all(), "random weights write no name"
    assert free["permutation_stability"].isna().all()
    pd.testing.assert_frame_equal(stage(config=config), found)
