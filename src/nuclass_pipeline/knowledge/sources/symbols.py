"""Gene symbols by the HGNC table: approved, else previous, else alias, each by exact match."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.knowledge.sources.files import Origin, read_download

HGNC = Origin(
    "hgnc_complete_set.txt of the HGNC",
    "https://www.genenames.org/download/statistics-and-files/",
    "CC0",
    "Seal et al. 2023, 10.1093/nar/gkac888",
)

_Names = dict[str, set[str]]


class Symbols:
    """Approved gene symbols, and their previous symbols and aliases.

    Parameters
    ----------
    rows
        Approved symbol → its previous symbols and its aliases.
    """

    def __init__(self, rows: Mapping[str, tuple[Iterable[str], Iterable[str]]]) -> None:
        approved: _Names = {symbol: {symbol} for symbol in rows}
        previous, aliases = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
        for symbol, names in rows.items():
            for table, listed in zip((previous, aliases), names, strict=True):
                for name in listed:
                    table[name].add(symbol)
        self._tables = [approved, dict(previous), dict(aliases)]
        self._upper = [_upper_case(table) for table in self._tables]

    def matches(self, symbol: str) -> frozenset[str]:
        """Return the approved symbols that `symbol` may mean: none if unknown, several if ambiguous.

        The first of approved symbols, previous symbols and aliases that contains it decides.
        """
        # Capitals are tried last, because many tables write C9orf152 as C9ORF152, while Ace2 is the mouse gene and must not match.
        for tables in (self._tables, self._upper if symbol.isupper() else []):
            for table in tables:
                if symbol in table:
                    return frozenset(table[symbol])
        return frozenset()

    def approved(self, symbol: str) -> str | None:
        """Return the approved symbol, or None where `symbol` is unknown or ambiguous."""
        found = self.matches(symbol)
        return next(iter(found)) if len(found) == 1 else None


def _upper_case(table: _Names) -> _Names:
    upper = defaultdict[str, set[str]](set)
    for name, symbols in table.items():
        upper[name.upper()] |= symbols
    return dict(upper)


def read_hgnc(path: Path | str) -> Symbols:
    """Read `hgnc_complete_set.txt`: tab-separated `symbol, prev_symbol, alias_symbol`, names separated by `|`.

    Raises
    ------
    UserError
        If the file is missing, cannot be read, lacks a column, or has an approved symbol twice or empty.
    """
    frame, _ = read_download(path, HGNC, ("symbol", "prev_symbol", "alias_symbol"))
    if (frame["symbol"] == "").any() or frame["symbol"].duplicated().any():
        wrong = frame.loc[(frame["symbol"] == "") | frame["symbol"].duplicated(), "symbol"].iloc[0]
        raise UserError(path, "symbol", f"{wrong!r} occurs twice" if wrong else "a field is empty", HGNC.remedy)
    rows = zip(frame["symbol"], frame["prev_symbol"], frame["alias_symbol"], strict=True)
    return Symbols({symbol: (_split(previous), _split(aliases)) for symbol, previous, aliases in rows})


def _split(cell: str) -> list[str]:
    return [name.strip() for name in cell.split("|") if name.strip()]
