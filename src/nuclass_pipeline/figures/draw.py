"""The stage of all figure rules."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from matplotlib import rc_context

from nuclass_pipeline.figures.style import RC, save_figure


def draw_figure(*, name: str, inputs: Mapping[str, Any], options: Mapping[str, Any], outputs: Sequence[Path]) -> None:
    """Draw one figure and save it.

    Parameters
    ----------
    name
        Name of a module of this package. `list_figures` refuses other names in a run file.
    inputs, options
        Arguments of the module's `draw`: paths, and plain values.
    outputs
        Files to write; the suffix sets the format.

    Raises
    ------
    ModuleNotFoundError
        If the package has no such module.
    """
    module = import_module(f"{__package__}.{name}")
    with rc_context(RC):
        save_figure(module.draw(**inputs, **options), outputs)
