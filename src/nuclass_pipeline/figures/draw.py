"""The stage of all figure rules."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from matplotlib import rc_context

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.figures.style import RC, save_figure


def draw_figure(*, name: str, inputs: Mapping[str, Any], options: Mapping[str, Any], outputs: Sequence[Path]) -> None:
    """Draw one figure and save it.

    Parameters
    ----------
    name
        Module of this package.
    inputs, options
        Arguments of its `draw`: paths, and plain values.
    outputs
        Files to write; the suffix decides the format.

    Raises
    ------
    UserError
        If there is no such figure.
    """
    module = f"{__package__}.{name}"
    if not name.isidentifier() or find_spec(module) is None:
        raise UserError("run file", "figures", f"there is no figure {name!r}", "Name a module of nuclass_pipeline.figures.")
    with rc_context(RC):
        save_figure(import_module(module).draw(**inputs, **options), outputs)
