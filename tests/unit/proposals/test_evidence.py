"""A record has one JSON text and one hash, and refuses to break its contract."""

import pytest

from nuclass_pipeline.proposals.evidence import ClusterEvidence, MarkerGene, Program, Support

RECORD = ClusterEvidence(
    cluster="é1",
    n_cells=3,
    species="human",
    organ="lung",
    markers=(MarkerGene("CD3D", 1 / 3, 0.5, -0.0, 1),),
    support=(Support("T_Cell", "Lymphoid", 2 / 3, ("CD3D",)),),
    programs=(Program("T cell activation", 1e-12 / 3, ("CD3D",)),),
    composition={"T_Cell": 1.0},
    admissible=("T_Cell", "B_Cell"),
)


def test_the_json_to_the_letter():
    assert RECORD.to_json() == (
        '{"admissible":["B_Cell","T_Cell"],"cluster":"é1","composition":{"T_Cell":1.0},"context":{"organ":"lung","species":"human"},'
        '"empty":[],"markers":[{"fraction_in":0.5,"fraction_out":0.0,"gene":"CD3D","log2fc":0.333333,"rank":1}],"n_cells":3,'
        '"programs":[{"genes":["CD3D"],"name":"T cell activation","q":3.33333e-13}],'
        '"support":[{"genes":["CD3D"],"label":"T_Cell","lineage":"Lymphoid","score":0.666667}]}'
    )
    assert RECORD.sha256() == "e91596fd50b89437ef58cb2f34245fe8eeda5770a7825a3ffaa6f198d53fb5f2"
    assert RECORD.genes == {"CD3D"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"admissible": ()}, "one or more"),
        ({"admissible": ("T_Cell", "T_Cell")}, "different"),
        ({"admissible": ("B_Cell",)}, "'T_Cell' is supported and not admissible"),
        ({"markers": (MarkerGene("CD3D", 1, 1, 0, 1),) * 21}, "21 markers; a record holds 20"),
    ],
)
def test_a_record_that_breaks_its_contract_is_not_made(change, message):
    support = (Support("T_Cell", "Lymphoid", 0.5, ("CD3D",)),)
    fields = {"markers": (), "support": support, "programs": (), "composition": {}, "admissible": ("B_Cell", "T_Cell")} | change
    with pytest.raises(ValueError, match=message):
        ClusterEvidence("a", 1, "human", "lung", **fields)


def test_without_evidence_the_context_and_the_labels_are_left():
    blank = RECORD.without_evidence()
    assert (blank.markers, blank.support, blank.programs, dict(blank.composition)) == ((), (), (), {})
    assert (blank.admissible, blank.organ, blank.species, blank.cluster, blank.n_cells) == (("B_Cell", "T_Cell"), "lung", "human", "é1", 3)
