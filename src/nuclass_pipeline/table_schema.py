"""What a table must hold: names, kinds and meanings of its columns."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from nuclass_pipeline.errors import UserError

Kind = Literal["text", "integer", "number", "flag", "bytes", "list"]
_DTYPE_KINDS: dict[Kind, str] = {"text": "OUST", "integer": "iu", "number": "fiu", "flag": "b", "bytes": "O", "list": "O"}


@dataclass(frozen=True)
class Column:
    """One column: its name, kind, meaning (with the unit) and whether values may be missing."""

    name: str
    kind: Kind
    meaning: str
    optional: bool = False


@dataclass(frozen=True)
class Table:
    """A named set of columns; `unique` columns identify a row, `extra` names the free columns allowed."""

    name: str
    columns: tuple[Column, ...]
    unique: tuple[str, ...] = ()
    extra: str = ""
    _by_name: dict[str, Column] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._by_name.update({column.name: column for column in self.columns})

    def pick(self, *names: str) -> tuple[Column, ...]:
        """Return some of the columns, for another table that has them too."""
        return tuple(self._by_name[name] for name in names)

    def check(self, frame: pd.DataFrame, path: Path | str, only: list[str] | None = None) -> None:
        """Raise `UserError` at the first column that is missing, of the wrong kind, empty or not unique."""
        wanted = [self._by_name[name] for name in only if name in self._by_name] if only else self.columns
        for column in wanted:
            _check_column(frame, column, path)
        if set(self.unique) <= set(frame.columns) and self.unique and frame.duplicated(list(self.unique)).any():
            row = frame.loc[frame.duplicated(list(self.unique)), list(self.unique)].iloc[0].to_dict()
            raise UserError(path, ", ".join(self.unique), f"{row} occurs twice", "Remove the repeated rows.")


def _check_column(frame: pd.DataFrame, column: Column, path: Path | str) -> None:
    if column.name not in frame:
        found = ", ".join(map(str, frame.columns))
        raise UserError(path, column.name, f"the column is missing; found {found}", "Remove the file and run again.")
    values = frame[column.name]
    if len(values) and values.dtype.kind not in _DTYPE_KINDS[column.kind]:
        raise UserError(path, column.name, f"is {values.dtype}, not {column.kind}", "Remove the file and run again.")
    if not column.optional and values.isna().any():
        raise UserError(
            path, column.name, f"row {int(np.flatnonzero(values.isna())[0])} is empty", "Fill it in, or remove the file and run again."
        )
