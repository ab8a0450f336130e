"""Reads the recipes of docs/extending.md and performs them: what a reader is told to type is what the test types."""

import re
from dataclasses import dataclass
from pathlib import Path

from tests import ROOT

PLACE = re.compile(r"^(New file|In|At the end of) `([^`]+)`:$")


@dataclass(frozen=True)
class Block:
    """One code block: its language, its text, and the line before it, which names the file it belongs to."""

    language: str
    text: str
    before: str

    def perform(self, folder: Path) -> None:
        """Write the block into a copy of the project."""
        match = PLACE.match(self.before)
        if self.language == "console":
            return
        if not match:
            raise ValueError(f"no file is named before the block that begins {self.text[:60]!r}")
        path = folder / match[2]
        if match[1] == "New file":
            if path.exists():
                raise ValueError(f"{match[2]} exists already")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.text)
        elif match[1] == "In":
            path.write_text(patched(path.read_text(), self.text, match[2]))
        else:
            path.write_text(path.read_text() + self.text)


def read_recipes() -> dict[str, list[Block]]:
    """Return heading → blocks of the page."""
    recipes: dict[str, list[Block]] = {"": []}
    heading, before, lines, language = "", "", [], None
    for line in (ROOT / "docs/extending.md").read_text().splitlines():
        if language is not None and line == "```":
            recipes[heading].append(Block(language, "\n".join(lines) + "\n", before))
            language = None
        elif language is not None:
            lines.append(line)
        elif line.startswith("```"):
            language, lines = line[3:], []
        elif line.startswith("## "):
            heading = line[3:]
            recipes[heading] = []
        elif line.strip():
            before = line
    return {name: blocks for name, blocks in recipes.items() if name and blocks}


def patched(text: str, change: str, name: str) -> str:
    """Apply a change: its lines without `+` stand in the file once, one after the other; `-` goes, `+` comes.

    A line `…` begins the next place.
    """
    for hunk in re.split(r"^…\n", change, flags=re.MULTILINE):
        lines = hunk.splitlines()
        old = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("+"))
        new = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("-"))
        if text.count(old) != 1:
            raise ValueError(f"{name} holds these lines {text.count(old)} times, not once:\n{old}")
        text = text.replace(old, new)
    return text


def commands(block: Block) -> list[tuple[str, list[str]]]:
    """Return each command of a console block with the lines of output that it shows."""
    found: list[tuple[str, list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found:
            found[-1][1].append(line)
    return found
