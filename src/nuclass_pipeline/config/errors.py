"""Mistakes in a run file or a slide sheet, as one line each."""

import reprlib
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ValidationError

from nuclass_pipeline.errors import UserError, similar

MOVED = {
    "labeling.cluster_annotator": "is now proposals.annotator",
    "labeling.model": "is now proposals.model",
    "split.guard_um": "is now split.buffer_um",
    "gate.lr": "is now gate.optim.lr_head",
    "gate.weight_decay": "is now gate.optim.weight_decay",
    "gate.warmup_steps": "is now gate.optim.warmup_steps",
    "gate.batch_size": "is now gate.optim.batch_size",
    "gate.max_epochs": "is now gate.optim.max_epochs",
    "gate.patience": "is now gate.optim.patience",
    "evaluation.explained_cells": "is now attribution.cells",
    "image.local_px": "is now image.local_um",
    "image.context_px": "is now image.context_um",
}
"""Key of an earlier version → what became of it."""

_NUMBER = ("not a number", "Write a number without a unit, such as 0.0001 or 1.0e-4, with a point and not a comma.")
_WHOLE = ("not a whole number", "Write it in digits, such as 10000.")
_TEXT = ("not text", "Put it in quotes.")
_LIST = ("not a list", "Write [a, b], or one `- a` a line.")
_KEYS = ("not a section of keys", "Write its keys below it, indented, or remove it.")
_PROBLEMS = {
    "float_parsing": _NUMBER,
    "float_type": _NUMBER,
    "int_parsing": _WHOLE,
    "int_type": _WHOLE,
    "int_from_float": _WHOLE,
    "string_type": _TEXT,
    "invalid_key": _TEXT,
    "tuple_type": _LIST,
    "dict_type": _KEYS,
    "model_type": _KEYS,
    "bool_type": ("not a truth value", "Write true or false."),
    "bool_parsing": ("not a truth value", "Write true or false."),
    "missing": ("the value is missing", "Fill it in."),
    "string_pattern_mismatch": ("not a name", "Use lower-case letters, digits and hyphens, such as lung-1."),
}
"""Type of an error of pydantic → problem and remedy."""

_BOUNDS = {
    "greater_than": "be above {gt:g}",
    "greater_than_equal": "be at least {ge}",
    "less_than": "be below {lt:g}",
    "less_than_equal": "be at most {le}",
    "too_short": "list at least {min_length}",
    "too_long": "list at most {max_length}",
    "string_too_long": "have at most {max_length} characters",
}
"""Kind of bound in pydantic → what is allowed."""


def explain_validation(error: ValidationError, model: type[BaseModel], source: Callable[[str], str]) -> UserError:
    """Turn the first error that pydantic found in a run file, read as `model`, into a `UserError`; `source` is field → file."""
    # Unknown keys first, because the key that is missing is often the one misspelt.
    first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    # Without the mark of pydantic for a key of its own, because the key itself stands before it.
    field = ".".join(str(part) for part in first["loc"] if part != "[key]") or "run file"
    file = source(field)
    if first["type"] == "extra_forbidden":
        if field in MOVED:
            return UserError(file, field, f"the key {MOVED[field]}", "Change it in the run file; CHANGELOG.md lists all changed keys.")
        allowed = _keys_beside(model, first["loc"])
        return UserError(file, field, f"unknown key{similar(str(first['loc'][-1]), allowed)}", f"Allowed here: {', '.join(allowed)}.")
    if first["type"] == "missing":
        return UserError(file, field, "the key is missing", "Add it; docs/configuration.md lists all keys.")
    problem, remedy = describe_problem(first, "See docs/configuration.md.")
    return UserError(file, field, problem, remedy)


def describe_problem(found: Any, otherwise: str) -> tuple[str, str]:
    """Return problem, with the value found, and remedy of an error that pydantic found; `otherwise` is the remedy of rare ones."""
    value = "" if isinstance(found["input"], dict) else f"{_short.repr(found['input'])}: "
    if found["type"] == "model_type" and found["input"] is None:
        return "the section is empty", "Remove it, or write a key below it, indented."
    if found["input"] is None:
        return "the value is empty", "Write a value, or remove the key."
    if found["type"] in _PROBLEMS:
        problem, remedy = _PROBLEMS[found["type"]]
        return value + problem, remedy
    if found["type"] in _BOUNDS:
        allowed = _BOUNDS[found["type"]].format(**found["ctx"])
        return f"{value}it must {allowed}", "Change it; docs/configuration.md has the bounds."
    if found["type"] == "literal_error":
        options = found["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        return f"{value}unknown{similar(str(found['input']), options)}", f"Use one of {', '.join(options)}."
    return value + found["msg"].removeprefix("Value error, ").replace("?. ", "? "), otherwise


_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


def _keys_beside(model: Any, loc: tuple[int | str, ...]) -> list[str]:
    for part in loc[:-1]:
        fields = {info.alias or name: info for name, info in model.model_fields.items()}
        model = fields[str(part)].annotation
    return [info.alias or name for name, info in model.model_fields.items()]
