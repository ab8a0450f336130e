"""Cell types and their groups: Cell Ontology ids, lineages, and every name they are called by.

Names are compared without regard to case, punctuation, plural and the word "cell", and are otherwise exact.
"""

import csv
import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import require
from nuclass_pipeline.vocabulary import LINEAGES

_COLUMNS = ("name", "kind", "cl_id", "cl_name", "state", "parents", "near", "synonyms", "narrower")
_KINDS = ("class", "other", "group")
_CL_ID = re.compile(r"CL:\d{7}")


@dataclass(frozen=True)
class Node:
    """A type, or a group of types.

    `kind` is class (one of the 22), other (competes for cells and is never taught) or group. The first of `parents` is the lineage
    path. `near` are the types or groups that take its cells where none of its own is told apart. `synonyms` mean the same,
    `narrower` a part of it.
    """

    name: str
    kind: str
    cl_id: str
    cl_name: str
    state: str
    parents: tuple[str, ...]
    near: tuple[str, ...]
    synonyms: tuple[str, ...]
    narrower: tuple[str, ...]


def name_key(name: str) -> str:
    """Reduce a name to what is compared: "T cells", "T_Cell" and "t-cell" are one; no letter or digit else is lost.

    Only whole words are touched, so "goblet cell" keeps nothing of "t cell".
    """
    words = (word if len(word) < 3 else word.removesuffix("s") for word in re.findall(r"[^\W_]+", name.casefold()))
    return "".join(word for word in words if word != "cell")


class Hierarchy:
    """The types, their groups, and their names.

    Raises
    ------
    UserError
        If a parent is unknown, the parents run in a circle, a type has no lineage, or a name has two meanings.
    """

    def __init__(self, nodes: Sequence[Node], file: Path | str = "types.tsv") -> None:
        self.nodes = {node.name: node for node in nodes}
        self._file = file
        self._refuse_unknown()
        self._above = {name: self._climb(name) for name in self.nodes}
        self.types = tuple(node.name for node in nodes if node.kind != "group")
        self._lineage = {name: self._find_lineage(name) for name in self.types}
        self._names = self._index()

    def lineage_of(self, type_: str) -> str:
        """Return the lineage of a type, one of the values of `LINEAGES`."""
        return self._lineage[type_]

    def path_of(self, name: str) -> tuple[str, ...]:
        """Return a type or group and what it is part of, up to its compartment: T_Cell, Lymphoid, Immune."""
        parents = self.nodes[name].parents
        return (name, *(self.path_of(parents[0]) if parents else ()))

    def type_named(self, name: str) -> str | None:
        """Return the one type that `name` means or is a part of; None for groups and for names that are not known."""
        found = self._names.get(name_key(name), ("", False))[0]
        return found if found in self._lineage else None

    def resolve(self, name: str, file: Path | str = "lineages") -> frozenset[str]:
        """Return the types that a name covers; empty for a group without types, such as neurons.

        Raises
        ------
        UserError
            If the name is not known.
        """
        node, _ = self._look_up(name, file)
        return frozenset(type_ for type_ in self.types if node in self._above[type_])

    def assign(self, types: Iterable[str], wanted: Sequence[str], file: Path | str = "lineages") -> dict[str, str | None]:
        """Map each type to the lineage, of those `wanted`, that its cells belong to.

        The smallest wanted group that holds the type is taken. Where none does, the same is asked for the types and groups
        `near` it, in their order: NK cells go with T cells, plasma cells with B cells, monocytes with macrophages, mural cells with
        fibroblasts, vessels with the stroma. A wanted name narrower than any type ("Kupffer cells") stands for the whole type where
        nothing wanted means it exactly.

        Parameters
        ----------
        types
            Types to map.
        wanted
            Lineage names of another data set.
        file
            Where they come from, for messages.

        Returns
        -------
        Type → wanted name, None where no wanted lineage is near.

        Raises
        ------
        UserError
            If a name is not known, or two cannot be told apart.
        """
        chosen = self._choose(wanted, file)
        return {type_: self._nearest(type_, chosen) for type_ in types}

    def _choose(self, wanted: Sequence[str], file: Path | str) -> dict[str, str]:
        meant = {name: self._look_up(name, file) for name in wanted}
        chosen: dict[str, str] = {}
        for level in (False, True):
            found: dict[str, str] = {}
            for name, (node, narrow) in meant.items():
                if narrow is level and node in found:
                    problem = f"{found[node]!r} and {name!r} are both {node}, which is not divided here"
                    raise UserError(file, "lineage", problem, "Give them one name.")
                if narrow is level and node not in chosen:
                    found[node] = name
            chosen |= found
        return chosen

    def _nearest(self, type_: str, chosen: dict[str, str]) -> str | None:
        for start in (type_, *self.nodes[type_].near):
            if holders := [name for name in self._above[start] if name in chosen]:
                return chosen[min(holders, key=self._size)]
        return None

    def _size(self, name: str) -> int:
        return sum(name in above for above in self._above.values())

    def _look_up(self, name: str, file: Path | str) -> tuple[str, bool]:
        if found := self._names.get(name_key(name)):
            return found
        known = sorted({alias for node in self.nodes.values() for alias in (node.name, *node.synonyms)}, key=str.casefold)
        close = difflib.get_close_matches(name.casefold(), [alias.casefold() for alias in known], n=5, cutoff=0.5)
        groups = [node.name for node in self.nodes.values() if node.kind == "group"]
        near = [alias for alias in known if alias.casefold() in close] or groups
        raise UserError(file, "lineage", f"{name!r} is no known type or lineage", f"Rename it; near are {', '.join(near)}.")

    def _index(self) -> dict[str, tuple[str, bool]]:
        names: dict[str, tuple[str, bool]] = {}
        for node in self.nodes.values():
            for narrow, listed in ((False, (node.name, *node.synonyms)), (True, node.narrower)):
                for name in listed:
                    key = name_key(name)
                    if not key or names.setdefault(key, (node.name, narrow)) != (node.name, narrow):
                        problem = f"{name!r} has two meanings" if key else f"{name!r} says nothing"
                        raise UserError(self._file, f"{node.name}, names", problem, "Keep it in one place.")
        return names

    def _refuse_unknown(self) -> None:
        for node in self.nodes.values():
            if unknown := [name for name in (*node.parents, *node.near) if name not in self.nodes]:
                raise UserError(self._file, f"{node.name}, parents or near", f"{unknown[0]!r} has no row", "Use names of the first column.")

    def _climb(self, name: str) -> tuple[str, ...]:
        """List a node and everything it is part of, the nearest first."""
        found = [name]
        for below in found:
            for parent in self.nodes[below].parents:
                if parent == name:
                    raise UserError(self._file, f"{name}, parents", "the parents run in a circle", "Break it.")
                if parent not in found:
                    found.append(parent)
        return tuple(found)

    def _find_lineage(self, name: str) -> str:
        for part in self.path_of(name):
            if part in LINEAGES.values():
                return part
        raise UserError(self._file, f"{name}, parents", "no lineage above it", f"Lineages are {', '.join(sorted(set(LINEAGES.values())))}.")


def read_hierarchy(path: Path | str) -> Hierarchy:
    """Read the table of types and groups; lists in a cell are separated by semicolons.

    Raises
    ------
    UserError
        If a column is missing, a name occurs twice, a kind is unknown, an id is no Cell Ontology id, two types without a state share
        an id, or the hierarchy does not hold together.
    """
    with require(path).open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream, delimiter="\t")
        if missing := [name for name in _COLUMNS if name not in (reader.fieldnames or [])]:
            raise UserError(path, missing[0], "the column is missing", f"The columns are {', '.join(_COLUMNS)}, separated by tabs.")
        nodes = [_node(path, line, row) for line, row in enumerate(reader, start=2)]
    _refuse_repeats(path, nodes)
    return Hierarchy(nodes, path)


def _node(path: Path | str, line: int, row: dict[str, str | None]) -> Node:
    text = {name: (row[name] or "").strip() for name in _COLUMNS}
    lists = [tuple(part.strip() for part in text[name].split(";") if part.strip()) for name in _COLUMNS[5:]]
    if text["kind"] not in _KINDS:
        raise UserError(path, f"kind, line {line}", f"{text['kind']!r} is no kind", f"Use one of {', '.join(_KINDS)}.")
    needed = text["kind"] != "group" or text["name"] in LINEAGES.values()
    if (needed or text["cl_id"]) and not _CL_ID.fullmatch(text["cl_id"]):
        raise UserError(path, f"cl_id, line {line}", f"{text['cl_id']!r} is no Cell Ontology id", "Use CL: and seven digits.")
    return Node(text["name"], text["kind"], text["cl_id"], text["cl_name"], text["state"], *lists)


def _refuse_repeats(path: Path | str, nodes: Sequence[Node]) -> None:
    seen: set[str] = set()
    for node in nodes:
        ids = {node.cl_id} - {""} if not node.state else {f"{node.cl_id}, {node.state}"}
        if repeated := ({node.name} | ids) & seen:
            raise UserError(
                path, node.name, f"{min(repeated)} occurs twice", "Give each name one row, and a state to types that share an id."
            )
        seen |= {node.name} | ids


HIERARCHY = read_hierarchy(Path(__file__).with_name("types.tsv"))
"""The types this package knows."""
