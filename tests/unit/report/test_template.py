import pytest
from jinja2 import UndefinedError

from nuclass_pipeline.report.template import render
from tests.unit.report.reading import Page


def test_the_frame_lists_the_sections_and_their_parts():
    contents = [{"id": "a", "name": "A & B", "parts": [{"id": "a-1", "name": "<first>"}]}, {"id": "b", "name": "B"}]
    html = render("base.html", heading="x", contents=contents)
    links = [found["href"] for tag, found in Page(html).tags if tag == "a"]
    assert links == ["#a", "#a-1", "#b"]
    assert "A &amp; B" in html
    assert "&lt;first&gt;" in html


def test_a_value_that_is_not_given_is_an_error():
    with pytest.raises(UndefinedError):
        render("base.html", heading="x")
