"""The warnings of a run: what its files hold about themselves, in one table."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from nuclass_pipeline.io import read_warnings, write_table
from nuclass_pipeline.layout import BASE, RESULTS
from nuclass_pipeline.schemas import WARNINGS

_STAGES = {"variant_labels": "labels", "variant_split": "split"}
"""Result of a variant → the same result of a slide, whose warnings it has."""


def collect_warnings(*, warnings: Path, **results: Sequence[Path]) -> None:
    """Write the warnings of all results of a run, in the order of the arguments.

    Parameters
    ----------
    warnings
        Table `WARNINGS`.
    **results
        Name of a result in docs/outputs.md → its files.
    """
    rows = [row for name, paths in results.items() for path in paths for row in _rows(name, path)]
    write_table(pd.DataFrame(rows, columns=[column.name for column in WARNINGS.columns], dtype=object), warnings, WARNINGS)


def _rows(name: str, path: Path) -> Iterator[tuple[str, str, str]]:
    wildcards = _wildcards(name, path)
    slide = wildcards.pop("slide", "")
    # The model and its seed, because a warning about predictions is about those of one model.
    wildcards = {key: value for key, value in wildcards.items() if (key, value) != ("variant", BASE)}
    about = ", ".join(value if key in ("model", "variant") else f"{key} {value}" for key, value in wildcards.items())
    for text in read_warnings(path):
        yield slide, _STAGES.get(name, name), f"{about}: {text}" if about else text


def _wildcards(name: str, path: Path) -> dict[str, str]:
    """Return the wildcards of a result in its path, such as the slide."""
    sized = re.sub(r"<\w+>", r"\\d+", re.escape(RESULTS[name].path))
    pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", sized)
    found = re.search(f"{pattern}$", Path(path).as_posix())
    return found.groupdict() if found else {}
