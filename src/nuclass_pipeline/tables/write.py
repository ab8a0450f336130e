"""The stage of all table rules."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import whole_files
from nuclass_pipeline.tables.layout import Extreme, lay_out, printed_columns

_SPECIAL = str.maketrans({character: f"\\{character}" for character in "&%$#_{}"} | {"–": "--", "~": r"\textasciitilde{}"})


def write_table_files(*, name: str, inputs: Mapping[str, Any], outputs: Sequence[Path]) -> None:
    """Build one table and write it as tab-separated values, all digits kept, or as LaTeX (booktabs), rounded.

    Parameters
    ----------
    name
        Module of this package.
    inputs
        Arguments of its `build`: paths.
    outputs
        Files to write, ending in .tsv or .tex.

    Raises
    ------
    UserError
        If there is no such table.
    """
    path = f"{__package__}.{name}"
    if not name.isidentifier() or find_spec(path) is None:
        raise UserError("run file", "tables", f"there is no table {name!r}", "Name a module of nuclass_pipeline.tables.")
    module = import_module(path)
    frame = module.build(**inputs)
    with whole_files(*outputs) as partials:
        for partial in partials:
            if partial.suffix == ".tex":
                text = to_latex(frame, getattr(module, "BEST", {}), getattr(module, "GROUPED_BY", None))
            else:
                text = frame.to_csv(sep="\t", index=False)
            partial.write_text(text, encoding="utf-8")


def to_latex(frame: pd.DataFrame, best: Mapping[str, Extreme], group: str | None) -> str:
    """Return a LaTeX tabular; the best value of each group is bold, and repeated group names are left out."""
    text = lay_out(frame, _mark, best, group).rename(columns=lambda name: name.translate(_SPECIAL))
    if group:
        text[group] = text[group].where(~text[group].duplicated(), "")
    columns = "".join("l" if frame[name].dtype == object else "r" for name in printed_columns(frame))
    return text.to_latex(index=False, escape=False, column_format=columns)


def _mark(text: str, best: bool) -> str:
    escaped = text.translate(_SPECIAL)
    if not best:
        return escaped
    value, *interval = escaped.split(" ", 1)
    return " ".join([rf"\textbf{{{value}}}", *interval])
