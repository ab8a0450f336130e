"""Reasons cite nothing but the evidence, and never change the label."""

import pytest

from nuclass_pipeline.proposals.evidence import ClusterEvidence, MarkerGene, Program, Support
from nuclass_pipeline.proposals.language_model import LanguageModel
from nuclass_pipeline.proposals.rationale import explain, grounded
from tests.unit.proposals.tiny_language_model import write_model

RECORD = ClusterEvidence(
    cluster="a",
    n_cells=9,
    species="human",
    organ="lung",
    markers=(MarkerGene("CD3D", 2, 0.8, 0.1, 1), MarkerGene("HLA-DRA", 2, 0.8, 0.1, 2)),
    support=(Support("T_Cell", "Lymphoid", 0.618, ("CD3D",)),),
    programs=(Program("CD4-positive activation", 0.01, ("IL7R",)),),
    composition={},
    admissible=("B_Cell", "NK_Cell", "T_Cell"),
)
PLAIN = "T_Cell: of its markers, CD3D are up in this cluster (support 0.62)."


class FixedWriter:
    """A language model that always writes the same text."""

    def __init__(self, text):
        self.text = text

    def write(self, prompt, max_tokens):
        self.prompt = prompt
        return self.text


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("CD3D is a T cell gene.", ["CD3D is a T cell gene."]),
        ("CD3D is up. GATA3 too! Is IL7R? CD3D and ALB.", ["CD3D is up.", "Is IL7R?"]),
        ("CD3D,\nwith HLA-DRA, is up.", ["CD3D, with HLA-DRA, is up."]),
        ("cd3d and Il7r are up.", ["cd3d and Il7r are up."]),
        ("CD3D-positive NK cells.", ["CD3D-positive NK cells."]),
        ("CD3D and HLA-DRB1 are up.", []),
        ("CD4-positive cells with CD3D.", []),
        ("CD3D and p53 and TNFa and IFNγ.", []),
        ("CD3D and IFNγ.", []),
        ("These are T cells.", []),
        ("CD3D is up and this sentence has no en", []),
        ("", []),
    ],
)
def test_only_sentences_about_genes_of_the_evidence_are_kept(text, kept):
    assert grounded(text, RECORD) == kept
    assert explain(RECORD, "T_Cell", FixedWriter(text)) == (" ".join(kept) or PLAIN)


def test_a_word_of_a_label_is_not_a_citation():
    record = ClusterEvidence("a", 9, "human", "lung", (), (), (), {}, ("MAST_Cell",))
    assert grounded("MAST is up.", record) == []


def test_without_a_model_the_sentence_is_fixed():
    assert explain(RECORD, "T_Cell") == PLAIN
    assert explain(RECORD, "B_Cell") == "B_Cell: none of its markers is up in this cluster."


def test_the_prompt_contains_the_label_and_the_text_cannot_change_it():
    model = FixedWriter("It is a B cell. CD3D is up.")
    assert explain(RECORD, "T_Cell", model) == "CD3D is up."
    assert "The answer is T_Cell." in model.prompt
    with pytest.raises(ValueError, match="'Neuron' is not admissible"):
        explain(RECORD, "Neuron", model)


def test_with_random_weights_the_sentence_is_fixed(tmp_path):
    assert explain(RECORD, "T_Cell", LanguageModel(write_model(tmp_path), threads=1)) == PLAIN
