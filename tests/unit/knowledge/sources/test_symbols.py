"""Symbols match approved, previous or alias symbols exactly; ambiguous ones have no approved symbol."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.knowledge.markers import read_markers, restrict_to_panel
from nuclass_pipeline.knowledge.sources.symbols import Symbols, read_hgnc

HEADER = "hgnc_id\tsymbol\tname\tprev_symbol\talias_symbol\n"
TABLE = (
    HEADER
    + "HGNC:1\tACE2\tx\t\tACEH\n"
    + "HGNC:2\tBACE2\tx\t\tASP1|ALP56\n"
    + "HGNC:3\tADGRE5\tx\tCD97\tTM7LN1\n"
    + "HGNC:4\tKMT2B\tx\t\tMLL2|TRX2\n"
    + "HGNC:5\tKMT2D\tx\tMLL2\tALR\n"
    + "HGNC:6\tFCGR3A\tx\tFCG3\tCD16\n"
    + 'HGNC:7\tFCGR3B\tx\tFCG3\t"CD16|CD16b"\n'
    + "HGNC:8\tMS4A7\tx\t\tMS4A8\n"
    + "HGNC:9\tMS4A8\tx\tMS4A8B\t\n"
    + "HGNC:10\tC9orf152\tx\t\t\n"
)


@pytest.fixture(scope="module")
def symbols(tmp_path_factory):
    path = tmp_path_factory.mktemp("hgnc") / "hgnc_complete_set.txt"
    path.write_text(TABLE)
    return read_hgnc(path)


@pytest.mark.parametrize(
    ("symbol", "approved"),
    [
        ("ACE2", "ACE2"),
        ("ACEH", "ACE2"),
        ("CD97", "ADGRE5"),
        ("MLL2", "KMT2D"),  # previous of one gene, alias of another: previous first
        ("MS4A8", "MS4A8"),  # approved, though another gene's alias
        ("C9ORF152", "C9orf152"),
        ("CD16b", "FCGR3B"),
        ("CD16B", "FCGR3B"),
        ("CD16", None),  # alias of two genes
        ("FCG3", None),  # previous symbol of two genes
        ("ACE", None),
        ("ACE3", None),
        ("Ace2", None),  # the mouse gene
        ("", None),
    ],
)
def test_approved_symbols(symbols, symbol, approved):
    assert symbols.approved(symbol) == approved


def test_a_gene_never_matches_a_similar_symbol(symbols, markers_tsv):
    assert symbols.matches("ACE2") == {"ACE2"}
    assert symbols.matches("BACE") == frozenset()
    panel = restrict_to_panel(read_markers(markers_tsv), "lung", ["ADH7", "F11R", "PML", "BACE2", "CD3", "CD3DX", "cd3d"])
    assert not panel.weights.size


NAMES = st.sampled_from(["A1", "B2", "C3", "D4", "e5", "E5", "f6"])
ROWS = st.dictionaries(NAMES, st.tuples(st.sets(NAMES, max_size=3), st.sets(NAMES, max_size=3)), min_size=1)


@given(ROWS, st.sampled_from(["A1", "B2", "C3", "D4", "e5", "E5", "f6", "F6", "A12", "Z9"]))
def test_matches_agree_with_the_rule_in_plain_loops(rows, symbol):
    def rule():
        for same in (lambda name: name == symbol, lambda name: symbol.isupper() and name.upper() == symbol):
            for level in ([{s} for s in rows], [p for p, _ in rows.values()], [a for _, a in rows.values()]):
                if found := {s for s, names in zip(rows, level, strict=True) if any(map(same, names))}:
                    return found
        return set()

    found = Symbols(rows).matches(symbol)
    assert found == rule()
    assert Symbols(rows).approved(symbol) == (next(iter(found)) if len(found) == 1 else None)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("symbol\tprev_symbol\nA\t\n", "alias_symbol: the column is missing.*licence: CC0"),
        (HEADER, "rows: the table has none"),
        (HEADER + "1\tA\tx\t\t\n2\tA\tx\t\t\n", "symbol: 'A' occurs twice"),
        (HEADER + "1\t\tx\tB\t\n", "symbol: a field is empty"),
    ],
)
def test_a_wrong_hgnc_table_is_an_error(tmp_path, text, problem):
    path = tmp_path / "hgnc.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=problem) as caught:
        read_hgnc(path)
    assert "\n" not in str(caught.value)
