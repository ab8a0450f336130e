"""The stage of all table rules."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

from nuclass_pipeline.io import quote_table, whole_files
from nuclass_pipeline.tables.layout import Extreme, lay_out, printed_columns

# LaTeX would read these characters as commands.
_SPECIAL = str.maketrans({character: f"\\{character}" for character in "&%$#_{}"} | {"–": "--", "~": r"\textasciitilde{}"})


def write_table_files(*, name: str, inputs: Mapping[str, Any], outputs: Sequence[Path]) -> None:
    """Build one table and write it.

    Parameters
    ----------
    name
        Name of a module of this package. `list_tables` refuses other names in a run file.
    inputs
        Arguments of the module's `build`: paths.
    outputs
        Files to write: .tsv with all digits, or .tex (booktabs) with rounded numbers.

    Raises
    ------
    ModuleNotFoundError
        If the package has no such module.
    """
    module = import_module(f"{__package__}.{name}")
    frame = module.build(**inputs)
    with whole_files(*outputs) as partials:
        for partial in partials:
            if partial.suffix == ".tex":
                text = to_latex(frame, getattr(module, "BEST", {}), getattr(module, "GROUPED_BY", None))
            else:
                text = quote_table(frame).to_csv(sep="\t", index=False)
            partial.write_text(text, encoding="utf-8")


def to_latex(frame: pd.DataFrame, best: Mapping[str, Extreme], group: str | None) -> str:
    """Return a LaTeX tabular; the best values of each group are bold, and a group's name is printed once.

    Parameters
    ----------
    frame
        Table.
    best
        Column → whether its largest (`max`) or smallest (`min`) value is best.
    group
        Column whose equal values form a group.
    """
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
