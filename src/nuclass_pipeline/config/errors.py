"""Mistakes in a run file, as one line each."""

import difflib
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

from nuclass_pipeline.errors import UserError

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
    "image.local_px": "was removed: the local crop is 224 px",
    "image.context_px": "was removed: the context window is 1024 px",
}
"""Key of an earlier version → what became of it."""


def explain_validation(error: ValidationError, model: type[BaseModel], file: str) -> UserError:
    """Turn the first fault that pydantic found in `file`, read as `model`, into a `UserError`."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or "run file"
    if first["type"] == "extra_forbidden":
        if field in MOVED:
            return UserError(file, field, f"the key {MOVED[field]}", "Change it in the run file; CHANGELOG.md lists all changed keys.")
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
