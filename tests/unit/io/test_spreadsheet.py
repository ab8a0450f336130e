"""Formulas in text: quoted in every table of text, and read back as they were."""

import csv

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuclass_pipeline.io import quote_formula, quote_row, quote_table, read_rows, unquote_formula
from nuclass_pipeline.knowledge.markers import Marker, read_markers, write_markers
from nuclass_pipeline.proposals.propose import PROPOSAL_COLUMNS, _write
from nuclass_pipeline.report.build import build_report
from nuclass_pipeline.tables.write import write_table_files
from tests import ROOT

PACKAGE = ROOT / "src/nuclass_pipeline"

FORMULAS = ["=1+1", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "=HYPERLINK(\"http://x\")", "＝1", "-", "+cell", "-1-1"]  # fmt: skip


@pytest.mark.parametrize("value", FORMULAS)
def test_a_formula_is_quoted_and_read_back(value):
    assert quote_formula(value) == f"'{value}"
    assert unquote_formula(f"'{value}") == value


@pytest.mark.parametrize(
    "value", ["", "CD3E", "a=1", "a-1", "-1", "-1.5e-3", "+3", "-inf", "'text", "NK1.1", 3, -2.5, None, True, float("inf")]
)
def test_numbers_and_other_text_stay(value):
    assert quote_formula(value) == value
    if isinstance(value, str):
        assert unquote_formula(value) == value


@given(st.text() | st.text("'=-+@\t 1a", max_size=6))
def test_every_text_is_read_back_as_it_was(text):
    quoted = quote_formula(text)
    assert unquote_formula(quoted) == text
    assert not quoted.startswith(("=", "@", "+ ", "- "))


def test_a_table_is_quoted_in_its_text_alone():
    frame = pd.DataFrame({"=name": ["=1+1", "CD3E", None], "value": [-1.5, 2.0, 3.0], "n": [-1, 2, 3]})
    quoted = quote_table(frame)
    assert list(quoted) == ["'=name", "value", "n"]
    assert quoted["'=name"].tolist()[:2] == ["'=1+1", "CD3E"]
    assert quoted[["value", "n"]].equals(frame[["value", "n"]])
    assert frame["=name"][0] == "=1+1"


def test_a_row_is_read_back_by_the_reader_of_tables_that_a_person_edits(tmp_path):
    row = ["=1+1", "'=1", "-1.5", "a b", "@x"]
    with (tmp_path / "t.tsv").open("w", newline="") as stream:
        csv.writer(stream, delimiter="\t").writerows([list("abcde"), quote_row(row)])
    assert (tmp_path / "t.tsv").read_text().splitlines()[1] == "'=1+1\t''=1\t-1.5\ta b\t'@x"
    ((_, found),) = read_rows(tmp_path / "t.tsv").rows
    assert list(found.values()) == row


def test_every_writer_of_text_tables_quotes():
    writers = [
        path for path in PACKAGE.rglob("*.py") if any(call in path.read_text() for call in ("csv.writer(", ".to_csv(", "DictWriter("))
    ]
    assert {path.stem for path in writers} == {
        "labels",
        "write",
        "markers",
        "propose",
        "study",
        "holdouts",
        "names",
        "annotate",
        "reference",
    }
    assert all("quote_row" in path.read_text() or "quote_table" in path.read_text() for path in writers)


def test_a_table_of_the_run_is_quoted_and_its_page_shows_it_escaped(tmp_path, monkeypatch):
    frame = pd.DataFrame({"slide": ["=cmd|'/C calc'!A0", "<b>bold</b>"], "cells": [-1, 2]})
    monkeypatch.setattr("nuclass_pipeline.tables.cohort.build", lambda: frame)
    write_table_files(name="cohort", inputs={}, outputs=[tmp_path / "cohort.tsv"])
    assert (tmp_path / "cohort.tsv").read_text() == "slide\tcells\n'=cmd|'/C calc'!A0\t-1\n<b>bold</b>\t2\n"
    (tmp_path / "cohort.rst").write_text("Cells.")
    build_report(
        heading="<i>", figures=[], tables=[tmp_path / "cohort.tsv"], captions=[tmp_path / "cohort.rst"], report=tmp_path / "report.html"
    )
    page = (tmp_path / "report.html").read_text()
    assert "&#39;=cmd|" in page
    assert "&lt;b&gt;bold" in page
    assert "<b>" not in page


def test_proposals_that_a_person_edits_are_read_back_as_they_were(tmp_path):
    texts = ["=1", "@Cluster", "+a -b", "'=quoted", "Epithelial; =x", "a\tb"]
    row = ["-1a", 3, "00e1", *texts, "", ""]
    _write([row], tmp_path / "proposals.tsv")
    ((_, found),) = read_rows(tmp_path / "proposals.tsv", "\t").rows
    assert list(found) == list(PROPOSAL_COLUMNS)
    assert list(found.values()) == [str(value) for value in row]
    assert (tmp_path / "proposals.tsv").read_text().splitlines()[1].startswith("'-1a\t3\t00e1\t'=1\t'@Cluster\t")


def test_markers_are_read_back_as_they_were(tmp_path):
    markers = [Marker("T_Cell", "=CD3E", -1.5, frozenset({"lung"}), "@source"), Marker("T_Cell", "CD3D", 2.0, frozenset({"lung"}), "-")]
    write_markers(markers, tmp_path / "markers.tsv")
    assert read_markers(tmp_path / "markers.tsv") == markers
    assert "\t'=CD3E\t-1.5\tlung\t'@source" in (tmp_path / "markers.tsv").read_text()
