"""Readers of gene sets, annotations and ontologies: what is written is read, and errors name the line."""

import gzip
import hashlib
import logging

import networkx as nx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.expression.programs.library import Annotation, GeneSet, read_gaf, read_gmt, read_library, read_obo

OBO = """format-version: 1.2
data-version: releases/2026-05-19

[Term]
id: GO:0000001
name: root process
namespace: biological_process

[Term]
id: GO:0000002
name: immunity
namespace: biological_process
alt_id: GO:0000099
is_a: GO:0000001 ! root process

[Term]
id: GO:0000003
name: T cell activation
namespace: biological_process
is_a: GO:0000002 {source="x"} ! immunity

[Term]
id: GO:0000004
name: synapse formation
namespace: biological_process
is_a: GO:0000001
relationship: part_of GO:0000003 ! T cell activation
relationship: regulates GO:0000005 ! secretion

[Term]
id: GO:0000005
name: secretion
namespace: biological_process
is_a: GO:0000001

[Term]
id: GO:0000006
name: receptor activity
namespace: molecular_function
relationship: part_of GO:0000002

[Term]
id: GO:0000007
name: obsolete thing
namespace: biological_process
is_obsolete: true

[Typedef]
id: part_of
name: part of
is_a: no_term_at_all
"""
PANEL = {"CD3D", "CD3E", "LAT", "INS", "TRAC"}
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SYMBOL = st.from_regex(r"[A-Z][A-Za-z0-9.-]{0,8}", fullmatch=True)
GO_ID = st.integers(0, 9_999_999).map("GO:{:07d}".format)


def gaf_line(gene="CD3D", term="GO:0000003", go_code="IDA", qualifier="involved_in"):
    columns = [
        "UniProtKB",
        "P0",
        gene,
        qualifier,
        term,
        "PMID:1",
        go_code,
        "",
        "P",
        "a name",
        "",
        "protein",
        "taxon:9606",
        "20260101",
        "X",
    ]
    return "\t".join([*columns, "", ""])


def write(folder, name, text):
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.fixture
def ontology(tmp_path):
    return read_obo(write(tmp_path, "go.obo", OBO))


def annotated(tmp_path, ontology, *lines, name="a.gaf.gz"):
    return {one.term: one for one in read_library(write(tmp_path, name, "\n".join(["!gaf-version: 2.2", *lines])), ontology, PANEL)}


def test_genes_are_propagated_along_is_a_and_part_of_and_no_other_relation(tmp_path, ontology):
    sets = annotated(tmp_path, ontology, gaf_line("LAT", "GO:0000004"), gaf_line("CD3D", "GO:0000003", "IEA"))
    assert list(sets) == sorted(sets)
    assert {term: set(one.genes) for term, one in sets.items()} == {
        "GO:0000001": {"LAT", "CD3D"},
        "GO:0000002": {"LAT", "CD3D"},
        "GO:0000003": {"LAT", "CD3D"},
        "GO:0000004": {"LAT"},
    }


def test_evidence_codes_are_propagated_with_their_genes(tmp_path, ontology):
    lines = [gaf_line("CD3D", "GO:0000003", "IDA"), gaf_line("CD3D", "GO:0000004", "IEA"), gaf_line("LAT", "GO:0000002", "TAS")]
    sets = annotated(tmp_path, ontology, *lines, name="a.gaf")
    assert sets["GO:0000002"].go_codes == {"CD3D": {"IDA", "IEA"}, "LAT": {"TAS"}}
    assert sets["GO:0000004"].go_codes == {"CD3D": {"IEA"}}


@pytest.mark.parametrize("qualifier", ["NOT", "NOT|involved_in", "not|acts_upstream_of"])
def test_not_annotations_are_left_out(tmp_path, ontology, qualifier):
    sets = annotated(tmp_path, ontology, gaf_line("INS", qualifier=qualifier), gaf_line("CD3D"))
    assert sets["GO:0000003"].genes == sets["GO:0000001"].genes == {"CD3D"}


def test_a_function_counts_for_the_process_it_is_part_of_and_is_not_a_program_itself(tmp_path, ontology):
    assert set(annotated(tmp_path, ontology, gaf_line(term="GO:0000006"))) == {"GO:0000001", "GO:0000002"}


def test_secondary_ids_are_followed_and_obsolete_ones_are_counted(tmp_path, ontology, caplog):
    lines = [gaf_line("INS", "GO:0000099"), gaf_line("LAT", "GO:0000007"), gaf_line("LAT", "GO:7777777")]
    sets = annotated(tmp_path, ontology, *lines)
    assert {term: one.genes for term, one in sets.items()} == {"GO:0000001": {"INS"}, "GO:0000002": {"INS"}}
    assert "2 annotations have terms that are obsolete or not in the ontology" in caplog.text


def test_genes_off_the_panel_are_left_out(tmp_path, ontology):
    assert not annotated(tmp_path, ontology, gaf_line("TP53"))


def test_other_stanzas_do_not_touch_terms(ontology):
    assert len(ontology.terms) == 6
    assert ontology.terms["GO:0000006"].name == "receptor activity"
    assert ontology.resolve("GO:0000007") is ontology.resolve("part_of") is None
    assert ontology.lineage("GO:0000004") == {f"GO:000000{i}" for i in (1, 2, 3, 4)}


def test_the_checksum_and_the_release_are_logged(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        path = write(tmp_path, "go.obo", OBO)
        read_obo(path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() in caplog.text
    assert "releases/2026-05-19" in caplog.text


@pytest.mark.parametrize(
    ("name", "term", "short"),
    [
        ("T cell activation (GO:0042110)", "GO:0042110", "T cell activation"),
        ("Signaling By ALK R-HSA-201556", "R-HSA-201556", "Signaling By ALK"),
        ("GO:0042110", "GO:0042110", "GO:0042110"),
        ("HALLMARK_APOPTOSIS", "HALLMARK_APOPTOSIS", "HALLMARK_APOPTOSIS"),
    ],
)
def test_ids_are_taken_from_names(tmp_path, name, term, short):
    assert read_gmt(write(tmp_path, "l.gmt", f"{name}\t\tA\tB\t\n\n")) == [GeneSet(term, short, frozenset("AB"))]


NAME = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1).map("set {}".format)


@FUZZ
@given(st.dictionaries(GO_ID, st.tuples(NAME, st.frozensets(SYMBOL, min_size=1)), min_size=1), st.booleans())
def test_gene_sets_survive_a_round_trip(tmp_path, sets, zipped):
    text = "".join(f"{name} ({term})\t\t" + "\t".join(sorted(genes)) + "\n" for term, (name, genes) in sets.items())
    found = read_gmt(write(tmp_path, "l.gmt.gz" if zipped else "l.gmt", text))
    assert [one.term for one in found] == list(sets)
    assert [one.genes for one in found] == [genes for _, genes in sets.values()]
    assert all(one.name.startswith("set ") and "(GO:" not in one.name[-12:] for one in found)


@FUZZ
@given(st.lists(st.tuples(SYMBOL, GO_ID, st.sampled_from(["IDA", "IEA", "ND"]), st.booleans())))
def test_annotations_survive_a_round_trip(tmp_path, rows):
    lines = [gaf_line(gene, term, code, "NOT|involved_in" if negated else "part_of") for gene, term, code, negated in rows]
    path = write(tmp_path, "a.gaf", "\n".join(["!gaf-version: 2.1", "!a remark", *lines]) + "\n")
    assert list(read_gaf(path)) == [Annotation(gene, term, code) for gene, term, code, negated in rows if not negated]


@FUZZ
@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11), st.booleans()), max_size=30))
def test_lineages_are_the_closure_of_the_graph(tmp_path, edges):
    graph = nx.DiGraph([(max(a, b), min(a, b)) for a, b, _ in edges if a != b])
    graph.add_nodes_from(range(12))
    kind = {(max(a, b), min(a, b)): "is_a: " if is_a else "relationship: part_of " for a, b, is_a in edges if a != b}
    stanzas = [
        f"[Term]\nid: T{i}\nname: term {i}\n" + "".join(f"{kind[i, parent]}T{parent} ! above\n" for parent in graph.successors(i))
        for i in reversed(range(12))
    ]
    found = read_obo(write(tmp_path, "go.obo", "\n".join(stanzas)))
    assert {name: found.lineage(name) for name in found.terms} == {
        f"T{i}": {f"T{j}" for j in nx.descendants(graph, i) | {i}} for i in graph
    }


@FUZZ
@given(st.binary(max_size=300) | st.text(st.sampled_from("\t\n![]:GO0 is_aTermid"), max_size=300).map(str.encode), st.booleans())
def test_rubbish_is_refused_in_one_line(tmp_path, content, zipped):
    for reader, name, start in (
        (read_gmt, "l.gmt", b""),
        (lambda p: list(read_gaf(p)), "a.gaf", b"!gaf-version: 2.2\n"),
        (read_obo, "o.obo", b"[Term]\n"),
    ):
        path = tmp_path / (name + ".gz" * zipped)
        path.write_bytes(start + content)
        try:
            reader(path)
        except UserError as error:
            assert "\n" not in str(error)


@settings(FUZZ, max_examples=25)
@given(st.integers(2, 40), st.integers(0, 14))
def test_a_short_annotation_names_its_line(tmp_path, number, columns):
    lines = ["!gaf-version: 2.2", *[gaf_line()] * (number - 2), "\t".join(gaf_line().split("\t")[:columns]) or "x"]
    with pytest.raises(UserError, match=f"line {number}:"):
        list(read_gaf(write(tmp_path, "a.gaf", "\n".join(lines))))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "sets: the file has none"),
        ("a\tb\tG\nonly a name\n", "line 2: 'only a name' is not a gene set"),
        ("\t\tG\n", "line 1: .* is not a gene set. Separate"),
        ("a\t\tG\nb\t\tH,1.0\n", "line 2: 'H,1.0' is not a gene symbol"),
        ("a\t\tG\nb\t\tG\na\t\tH\n", "line 3: the set a occurs twice"),
    ],
)
def test_broken_gene_sets(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_gmt(write(tmp_path, "l.gmt", text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no line '!gaf-version: 2.x'"),
        (gaf_line(), "line 1: the version above it is missing, not 2.x"),
        ("!gaf-version: 1.0\n" + gaf_line(), "line 2: the version above it is 1.0, not 2.x"),
        ("!gaf-version: 2.2\n" + gaf_line(gene=""), "line 2: has no symbol"),
        ("!gaf-version: 2.2\n" + gaf_line(term="GO:1"), "line 2: has no symbol, GO id"),
        ("!gaf-version: 2.2\n" + gaf_line(go_code=""), "line 2: has no symbol, GO id or evidence code"),
    ],
)
def test_broken_annotations(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        list(read_gaf(write(tmp_path, "a.gaf", text)))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (OBO, "<html></html>", "terms: the file has none.*go-basic.obo"),
        ("name: immunity\n", "", "line 9: the term has no id or no name"),
        ("id: GO:0000003", "id: GO:0000002", "line 16: GO:0000002 occurs twice"),
        ("namespace: biological_process\nalt_id", "namespace\nalt_id", "line 12: 'namespace' is not a tag"),
        ("part_of GO:0000003 !", "part_of", "line 27: .* is not a tag with a value"),
        ("is_a: GO:0000002 {", "is_a: GO:0000007 {", "GO:0000007, the parent of GO:0000003, is obsolete or missing"),
        ("name: immunity", "name: immunity\nis_a: GO:0000004", "the terms .* form a circle"),
    ],
)
def test_broken_ontologies(tmp_path, old, new, message):
    assert old in OBO
    text = OBO.replace(old, new, 1).replace("part_of T cell activation", "part_of")
    with pytest.raises(UserError, match=message):
        read_obo(write(tmp_path, "go.obo", text))


def test_missing_and_cut_files_say_where_to_get_them(tmp_path, ontology):
    for reader, name, address in (
        (read_gmt, "l.gmt", "goa_human.gaf.gz"),
        (lambda path: list(read_gaf(path)), "a.gaf.gz", "goa_human.gaf.gz"),
        (read_obo, "o.obo.gz", "http://current.geneontology.org/ontology/go-basic.obo"),
    ):
        with pytest.raises(UserError, match=f"it does not exist.*{address}.*CC BY 4.0"):
            reader(tmp_path / name)
    cut = tmp_path / "a.gaf.gz"
    cut.write_bytes(gzip.compress(("!gaf-version: 2.2\n" + gaf_line()).encode())[:-12])
    with pytest.raises(UserError, match="cannot be read"):
        list(read_gaf(cut))
    with pytest.raises(UserError, match=r"programs.ontology: not set, but needed by .*a.gaf.gz.*go-basic.obo"):
        read_library(cut, None, PANEL)
