"""Reads the commands of README.md and what the page shows them to print."""

import re
from dataclasses import dataclass
from itertools import pairwise

from tests import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
"""Language and text of every code block."""


@dataclass(frozen=True)
class Command:
    """A line of a code block, and the lines of the block of output that follows it."""

    text: str
    shown: tuple[str, ...] = ()

    def missing_in(self, screen: str) -> list[str]:
        """Return the shown lines that a screen lacks."""
        printed = screen.splitlines()
        return [line for line in self.shown if not any(is_shown(line, there) for there in printed)]


def is_shown(line: str, printed: str) -> bool:
    """Return whether a line is the printed one: it may end with …, and a count may differ by 5 + 5 %, as on another processor."""
    words, there = line.removesuffix("…").split(), printed.split()
    if len(words) > len(there) or (len(words) < len(there) and not line.endswith("…")):
        return False
    return all(word == other or is_near(word, other) for word, other in zip(words, there, strict=False))


def is_near(word: str, other: str) -> bool:
    try:
        value = float(word.replace(",", ""))
        return abs(value - float(other.replace(",", ""))) <= 5 + 0.05 * value
    except ValueError:
        return False


def read_commands() -> dict[str, Command]:
    """Return the commands of the page by their text, without comments."""
    found: dict[str, Command] = {}
    for (language, block), (following, output) in pairwise([*BLOCKS, ("", "")]):
        if language == "" and "─►" not in block:
            lines = [re.sub(r"\s+# .*", "", line).strip() for line in block.replace("\\\n", " ").splitlines()]
            texts = [line for line in lines if line]
            found.update({text: Command(text) for text in texts})
            if following == "text":
                found[texts[-1]] = Command(texts[-1], tuple(output.splitlines()))
    return found


def scores_of_page(start: str) -> dict[tuple[str, str], list[float]]:
    """Return (slide, model) → macro-F1, accuracy and ECE, from the table of the slides whose names have this start."""
    found, slide = {}, ""
    for row in re.findall(r"^\| (?!held-out|--).*\|$", README, flags=re.MULTILINE):
        first, model, *values = (cell.strip(" *") for cell in row.strip("|").split("|"))
        slide = first or slide
        if slide.startswith(start):
            found[slide, model] = [float(value) for value in values]
    return found


def scores_of_screen(screen: str) -> dict[tuple[str, str], list[float]]:
    """Return the same from what `nuclass summary` prints."""
    rows = re.findall(r"^│ (\S+)\s+│ (\w+)\s+│ ([\d.]+) \S+\s+│ ([\d.]+) \S+\s+│ ([\d.]+) │", screen, flags=re.MULTILINE)
    return {(slide, model): [float(value) for value in values] for slide, model, *values in rows}
