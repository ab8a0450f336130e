"""The stage of all figure rules."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from matplotlib import rc_context

from nuclass_pipeline.figures.style import COLORS, RC, save_figure


def draw_figure(*, name: str, inputs: Mapping[str, Any], options: Mapping[str, Any], outputs: Sequence[Path]) -> None:
    """Draw one figure and save it.

    Parameters
    ----------
    name
        Name of a module of this package. `list_figures` refuses other names in a run file.
    inputs, options
        Arguments of the module's `draw`: paths, and plain values. `colors` has the colours of the run's own classes.
    outputs
        Files to write; the suffix sets the format.

    Raises
    ------
    ModuleNotFoundError
        If the package has no such module.
    """
    module = import_module(f"{__package__}.{name}")
    own = options.get("colors", {})
    rest = {key: value for key, value in options.items() if key != "colors"}
    with rc_context(RC), _added(own):
        save_figure(module.draw(**inputs, **rest), outputs)


@contextmanager
def _added(own: Mapping[str, str]) -> Iterator[None]:
    """Add the colours of the run's own classes to `COLORS` inside the block."""
    COLORS.update(own)
    try:
        yield
    finally:
        for name in own:
            del COLORS[name]
