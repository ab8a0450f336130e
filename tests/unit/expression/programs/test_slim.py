"""Terms are shared among their most specific slim terms; similar terms make one program."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nuclass_pipeline.expression.programs.enrichment import Hit
from nuclass_pipeline.expression.programs.library import PROCESS, GeneSet, Ontology, Term
from nuclass_pipeline.expression.programs.slim import by_genes, by_slim, most_specific, slim_terms

# root > immune, signalling, adhesion; T cell activation is immune and signalling; its child is also adhesion.
PARENTS = {
    "root": (),
    "immune": ("root",),
    "leukocyte": ("immune",),
    "signal": ("root",),
    "adhesion": ("root",),
    "t_cell": ("leukocyte", "signal"),
    "synapse": ("t_cell", "adhesion"),
    "other": ("root",),
}


def ontology(parents=PARENTS, alternatives=None):
    return Ontology([Term(name, name.upper(), PROCESS, above) for name, above in parents.items()], alternatives)


def hit(term, p=0.001, genes=("A", "B", "C"), statistic=2.0, go_codes=None):
    return Hit(GeneSet(term, f"name of {term}", frozenset(genes), go_codes or {}), statistic, p, p, tuple(genes))


SLIM = frozenset({"immune", "signal", "adhesion"})


def test_a_slim_term_is_its_own():
    assert most_specific("immune", ontology(), SLIM) == {"immune": 1.0}
    assert most_specific("synapse", ontology(), SLIM | {"synapse"}) == {"synapse": 1.0}


def test_several_most_specific_terms_share_the_weight():
    assert most_specific("t_cell", ontology(), SLIM) == {"immune": 0.5, "signal": 0.5}
    assert most_specific("synapse", ontology(), SLIM) == pytest.approx({"adhesion": 1 / 3, "immune": 1 / 3, "signal": 1 / 3})


def test_a_more_specific_term_hides_those_above_it():
    assert most_specific("synapse", ontology(), SLIM | {"leukocyte"}) == pytest.approx(
        dict.fromkeys(("adhesion", "leukocyte", "signal"), 1 / 3)
    )


def test_secondary_ids_are_followed_and_unknown_terms_have_no_slim_term():
    assert most_specific("old", ontology(alternatives={"old": "t_cell"}), SLIM) == {"immune": 0.5, "signal": 0.5}
    assert most_specific("other", ontology(), SLIM) == most_specific("HALLMARK", ontology(), SLIM) == {}


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)), max_size=40), st.sets(st.integers(0, 14)))
def test_weights_add_up_to_one_over_an_antichain(edges, chosen):
    above = {str(i): tuple({str(min(e)) for e in edges if max(e) == i and min(e) != i}) for i in range(15)}
    graph, slim = ontology(above), frozenset(map(str, chosen))
    for term in above:
        shares = most_specific(term, graph, slim)
        reached = graph.lineage(term) & slim
        assert sum(shares.values()) == pytest.approx(1) if reached else not shares
        assert all(one not in graph.lineage(other) for one in shares for other in shares if one != other)
        assert all(any(one in graph.lineage(best) for best in shares) for one in reached)


def test_the_root_and_other_aspects_are_not_slim_terms():
    terms = [Term("root", "", PROCESS), Term("a", "", PROCESS, ("root",)), Term("f", "", "molecular_function", ("root",))]
    assert slim_terms(Ontology(terms)) == {"a"}


def test_programs_gather_their_terms():
    hits = [
        hit("t_cell", 1e-6, ("C", "A", "B"), go_codes={"A": frozenset({"IDA"}), "Z": frozenset({"ND"})}),
        hit("leukocyte", 1e-4, ("A", "D", "B"), go_codes={"D": frozenset({"IEA", "TAS"})}),
        hit("other", 1e-5),
    ]
    immune, signal = by_slim(hits, ontology(), SLIM)
    assert (immune.slim, immune.name, immune.weight) == ("immune", "IMMUNE", 1.5)
    assert immune.genes == ("C", "A", "B", "D")
    assert immune.go_codes == ("IDA", "IEA", "TAS")
    assert [one.gene_set.term for one in immune.hits] == ["t_cell", "leukocyte"]
    assert (signal.slim, signal.weight, signal.genes) == ("signal", 0.5, ("C", "A", "B"))


def test_weights_of_programs_add_up_to_the_terms_under_the_slim():
    hits = [hit(term, 1e-3 + i / 1e6) for i, term in enumerate(("synapse", "t_cell", "immune", "other"))]
    assert sum(one.weight for one in by_slim(hits, ontology(), SLIM)) == pytest.approx(3)


def test_terms_carried_by_the_same_genes_are_one_program():
    hits = [hit("a", 1e-5, "ABCD"), hit("b", 1e-4, "ABE"), hit("c", 1e-3, "ABEFG"), hit("d", 1e-2, "BEFG")]
    first, second = by_genes(hits)
    assert [one.gene_set.term for one in first.hits] == ["a", "b"]
    assert [one.gene_set.term for one in second.hits] == ["c", "d"]
    assert (first.slim, first.name, first.weight) == (None, "name of a", 2.0)
    assert first.genes == tuple("ABCDE")
