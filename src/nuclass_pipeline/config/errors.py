"""Mistakes in a run file, as one line each."""

import difflib
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

from nuclass_pipeline.errors import UserError


def explain_validation(error: ValidationError, model: type[BaseModel], file: str) -> UserError:
    """Turn the first fault that pydantic found in `file`, read as `model`, into a `UserError`."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or "run file"
    if first["type"] == "extra_forbidden":
        allowed = _keys_beside(model, first["loc"])
        return UserError(file, field, f"unknown key{similar(str(first['loc'][-1]), allowed)}", f"Allowed here: {', '.join(allowed)}.")
    if first["type"] == "missing":
        return UserError(file, field, "the key is missing", "Add it; docs/configuration.md lists all keys.")
    value = "" if isinstance(first["input"], dict) else f"{first['input']!r}: "
    return UserError(file, field, value + first["msg"].removeprefix("Value error, "), "See docs/configuration.md.")


def similar(name: str, names: Iterable[object]) -> str:
    """Return `, did you mean 'x'?` with the most similar of `names`; empty where none is similar."""
    close = difflib.get_close_matches(name, [str(n) for n in names], n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def _keys_beside(model: Any, loc: tuple[int | str, ...]) -> list[str]:
    for part in loc[:-1]:
        fields = {info.alias or name: info for name, info in model.model_fields.items()}
        model = fields[str(part)].annotation
    return [info.alias or name for name, info in model.model_fields.items()]
