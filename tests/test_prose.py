"""Docs, docstrings, descriptions, comments and messages keep the rules of CONTRIBUTING.md that a program can check."""

import ast
import re

import pytest

from nuclass_pipeline.layout import RESULTS
from tests import ROOT
from tests.census import docstrings, dull_docstrings, modules, odd_phrases, pages

MAX_WORDS = 25


def test_no_odd_phrase_is_left():
    assert not odd_phrases()


def test_docstrings_begin_with_a_verb_of_the_list():
    assert not dull_docstrings()


def test_a_sentence_of_a_docstring_is_short():
    """At most 30 words, since formulas count as words."""
    for place, text in docstrings():
        summary = re.sub(r"`[^`]*`", "code", text.split("\n\n")[0].replace("\n", " "))
        for sentence in re.split(r"(?<=[.!?:;])\s+", summary):
            assert len(sentence.split()) <= 30, f"{place}: {sentence}"


def sentences(text):
    """Yield the sentences of a page: no code, tables or headings; a link counts as its text."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"`[^`]*`", "code", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", prose))
    joined = re.sub(r"(?<=[^\n])\n(?=[^\n|#!<*\-\d\s])", " ", prose)
    for paragraph in joined.split("\n"):
        if not re.match(r"^\s*(\||#|!\[|<!--)", paragraph):
            yield from re.split(r"(?<=[.!?:])\s+", paragraph.strip(" *-"))


@pytest.mark.parametrize("page", pages(), ids=lambda path: path.name)
def test_a_sentence_holds_one_idea(page):
    """At most 25 words; a few may be longer, since no counter of words knows every abbreviation."""
    lengths = [len(sentence.split()) for sentence in sentences(page.read_text()) if sentence]
    long = [length for length in lengths if length > MAX_WORDS]
    assert len(long) <= 0.03 * len(lengths) + 1, f"{len(long)} of {len(lengths)} sentences have more than {MAX_WORDS} words"


@pytest.mark.parametrize(
    "page", [path for path in pages() if path.name not in {"README.md", "CHANGELOG.md", "glossary.md"}], ids=lambda path: path.name
)
def test_a_page_opens_with_an_example(page):
    """A block of code stands before the third paragraph."""
    before, _, _ = page.read_text().partition("```")
    paragraphs = [text for text in before.split("\n\n") if text.strip() and not text.startswith(("#", "<!--"))]
    assert "```" in page.read_text()
    assert len(paragraphs) <= 3, f"{len(paragraphs)} paragraphs before the first example"


def anchors(page):
    """Return the anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", pages(), ids=lambda path: path.name)
def test_links_and_files_exist(page):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", page.read_text()):
        if not target.startswith("http"):
            file = page.parent / target if target else page
            assert file.exists(), f"{page.name} links {target}"
            assert not anchor or anchor in anchors(file), f"{page.name} links {target}#{anchor}"
    for module in re.findall(r"`((?:src/nuclass_pipeline/)?[a-z_]+(?:/[a-z_0-9]+)+\.(?:py|smk))`", page.read_text()):
        places = [ROOT / module, ROOT / "src/nuclass_pipeline" / module]
        assert page.name == "extending.md" or any(path.exists() for path in places), f"{page.name} names {module}"


def test_every_result_is_named_by_its_meaning():
    assert all(file.meaning and not file.meaning.endswith(".") for file in RESULTS.values())


def test_errors_end_with_a_remedy():
    """The fourth argument of a `UserError` is a sentence, or a name that holds one."""
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "UserError":
                assert len(node.args) == 4, f"{path}:{node.lineno}"
                remedy = node.args[3]
                parts = remedy.values if isinstance(remedy, ast.JoinedStr) else [remedy]
                first, last = parts[0], parts[-1]
                if isinstance(first, ast.Constant):
                    assert first.value[0].isupper() or first.value.startswith(("pip ", "hf ")), f"{path}:{node.lineno}: {first.value}"
                if isinstance(last, ast.Constant):
                    assert not last.value.endswith("?"), f"{path}:{node.lineno}: {last.value}"
