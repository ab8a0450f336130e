"""JSON files."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nuclass_pipeline.errors import UserError, first_line
from nuclass_pipeline.io.paths import MAKE_AGAIN, require_file
from nuclass_pipeline.io.writing import whole_file


def write_json(value: Any, path: Path | str) -> None:
    """Write indented JSON with a final newline."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")


def write_json_object(items: Iterable[tuple[str, Any]], path: Path | str) -> None:
    """Write a JSON object as `write_json` does, entry by entry, because that of a large slide takes gigabytes in memory.

    Parameters
    ----------
    items
        Names and values, each name once.
    path
        File to write.
    """
    with whole_file(path) as partial, partial.open("w", encoding="utf-8") as file:
        start = "{\n "
        for name, value in items:
            text = json.dumps(value, indent=1, allow_nan=False).replace("\n", "\n ")
            file.write(f"{start}{json.dumps(name)}: {text}")
            start = ",\n "
        file.write("{}\n" if start.startswith("{") else "\n}\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file; a missing or broken one, or one with a key twice, is a `UserError`."""
    path = require_file(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise UserError(path, "file", f"not valid JSON ({first_line(error)})", MAKE_AGAIN) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs as a dictionary; Python alone would keep the last of two equal keys."""
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise ValueError(f"{counts.most_common(1)[0][0]!r} occurs twice")
    return found
