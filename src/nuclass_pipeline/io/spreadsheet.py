"""Text in tables that a spreadsheet opens: what it would run as a formula is quoted, and read back as it was.

A spreadsheet takes a cell that begins with one of these characters for a formula, also in a CSV (OWASP, "CSV injection"). The quote is
an apostrophe, which spreadsheets show as text.
"""

import re
from collections.abc import Iterable

import pandas as pd

_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_QUOTED = re.compile(r"'+[=+\-@\t\r\n＝＋－＠]")


def quote_formula(value: object) -> object:
    """Return text that a spreadsheet would run as a formula with an apostrophe before it; all else as it is."""
    # Quotes are counted in, because otherwise text that begins with one could not be read back.
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) and not _is_number(value) else value


def unquote_formula(text: str) -> str:
    """Return text without the apostrophe of `quote_formula`."""
    return text[1:] if _QUOTED.match(text) and not _is_number(text) else text


def quote_row(values: Iterable[object]) -> list[object]:
    """Return the values of a row, each as by `quote_formula`."""
    return [quote_formula(value) for value in values]


def quote_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table with its text, and the names of its columns, as by `quote_formula`."""
    texts = {name: frame[name].map(quote_formula) for name in frame.columns if frame[name].dtype.kind in "OUST"}
    return frame.assign(**texts).rename(columns=quote_formula)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
