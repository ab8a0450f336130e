"""The warnings of a run by slide, each with what it means and what to do."""

import re
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from nuclass_pipeline.io import read_rows, read_table
from nuclass_pipeline.schemas import WARNINGS

RUN = "the run"
"""Heading of the warnings that are about no single slide."""


class Explanation(NamedTuple):
    """What a kind of warning means for the results, and what to do about it."""

    meaning: str
    remedy: str


def explain_warning(stage: str, warning: str) -> Explanation:
    """Return the first explanation in `warnings.tsv` for the stage whose pattern occurs in the warning."""
    found = (row for row in _explanations() if row["stage"] == stage and re.search(row["pattern"], warning))
    row = next(found, {"meaning": "", "remedy": ""})
    return Explanation(row["meaning"], row["remedy"])


@cache
def _explanations() -> list[dict[str, str]]:
    table = read_rows(Path(__file__).with_name("warnings.tsv"), required=("stage", "pattern", "meaning", "remedy"))
    return [row for _, row in table.rows]


def group_warnings(path: Path, slides: Sequence[str]) -> list[dict[str, Any]]:
    """Return the warnings by slide, those of the run first; warnings of a slide with equal explanations are joined.

    Parameters
    ----------
    path
        Table `WARNINGS`.
    slides
        Slides of the run, in the order of the result. A warning of the run that begins with the name of one is about this slide.

    Returns
    -------
    One object per slide: its name, the number of its warnings, and its kinds with their `texts`, `meaning` and `remedy`.
    """
    groups: dict[str, dict[Explanation, list[str]]] = {slide: {} for slide in (RUN, *slides)}
    table = read_table(path, WARNINGS)
    for place, stage, warning in zip(table["slide"], table["stage"], table["warning"], strict=True):
        slide, text = _place(place, warning, slides)
        groups.setdefault(slide, {}).setdefault(explain_warning(stage, text), []).append(f"{stage}: {text}")
    return [
        {
            "slide": slide,
            "count": sum(map(len, kinds.values())),
            "kinds": [{"texts": texts, "meaning": about.meaning, "remedy": about.remedy} for about, texts in kinds.items()],
        }
        for slide, kinds in groups.items()
        if kinds
    ]


def _place(slide: str, text: str, slides: Collection[str]) -> tuple[str, str]:
    if slide:
        return slide, text
    # The slide stands first, or after the variant.
    parts = text.split(": ", 2)
    place = next((number for number, part in enumerate(parts[:2]) if part in slides and number < len(parts) - 1), None)
    return (RUN, text) if place is None else (parts[place], ": ".join(parts[:place] + parts[place + 1 :]))
