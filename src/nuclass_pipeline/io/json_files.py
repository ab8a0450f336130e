"""JSON files."""

import json
from pathlib import Path
from typing import Any

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io.paths import MAKE_AGAIN, first_line, require
from nuclass_pipeline.io.writing import whole_file


def write_json(value: Any, path: Path | str) -> None:
    """Write indented JSON with a final newline."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file; a missing or broken one is a `UserError`."""
    path = require(path)
    try:
        return json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(path, "file", f"not valid JSON ({first_line(error)})", MAKE_AGAIN) from error
