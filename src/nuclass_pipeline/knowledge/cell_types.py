"""Cell types and their groups: Cell Ontology ids, lineages, and all names they have.

Names are compared without regard to case, punctuation, plural and the word "cell", and otherwise exactly.
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
    """A cell type, or a group of cell types: a lineage, a compartment such as Immune, or any other.

    Attributes
    ----------
    name
        Name in the vocabulary, such as T_Cell.
    kind
        class (one of the 22), other (a cell type that competes for cells and is never trained) or group.
    cl_id, cl_name
        Id and name in the Cell Ontology; empty for groups that it does not have.
    state
        State that separates cell types with the same id, such as tumour-associated.
    parents
        Groups and cell types it belongs to; the first of them leads up to its lineage and compartment.
    near
        Cell types or groups that take its cells in data sets without a lineage of its own, in order of preference.
    synonyms, narrower
        Other names for the same, and for a part of it.
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
    """Return the key that names are compared by: the same for "T cells", "T_Cell" and "t-cell"."""
    # Whole words, because "goblet cell" contains "t cell". Words below three letters keep their s, because it is no plural there.
    words = (word if len(word) < 3 else word.removesuffix("s") for word in re.findall(r"[^\W_]+", name.casefold()))
    return "".join(word for word in words if word != "cell")


class Hierarchy:
    """Cell types, their groups, and the names of both.

    Parameters
    ----------
    nodes
        Cell types and groups.
    file
        Where they come from, for errors.

    Raises
    ------
    UserError
        If a parent is unknown, the parents form a circle, a cell type has no lineage, or a name has two meanings.
    """

    def __init__(self, nodes: Sequence[Node], file: Path | str = "types.tsv") -> None:
        self.nodes = {node.name: node for node in nodes}
        self._file = file
        self._check_links()
        self._above = {name: self._climb(name) for name in self.nodes}
        self.types = tuple(node.name for node in nodes if node.kind != "group")
        self._lineage = {name: self._find_lineage(name) for name in self.types}
        self._names = self._index()

    def lineage_of(self, cell_type: str) -> str:
        """Return the lineage of a cell type, one of the values of `LINEAGES`."""
        return self._lineage[cell_type]

    def path_of(self, name: str) -> tuple[str, ...]:
        """Return a cell type or group and the groups above it, up to its compartment: T_Cell, Lymphoid, Immune."""
        parents = self.nodes[name].parents
        return (name, *(self.path_of(parents[0]) if parents else ()))

    def type_named(self, name: str) -> str | None:
        """Return the cell type that `name` means or is a part of; None for groups and for unknown names."""
        found = self._names.get(name_key(name), ("", False))[0]
        return found if found in self._lineage else None

    def types_in(self, name: str, file: Path | str = "lineages") -> frozenset[str]:
        """Return the cell types that a name covers; empty for a group without types, such as neurons.

        Raises
        ------
        UserError
            If the name is unknown.
        """
        node, _ = self._look_up(name, file)
        return frozenset(cell_type for cell_type in self.types if node in self._above[cell_type])

    def map_to_lineages(self, types: Iterable[str], lineages: Sequence[str], file: Path | str = "lineages") -> dict[str, str | None]:
        """Map each cell type to one of the lineages of another data set.

        A type goes to the smallest lineage that contains it. Where none does, the types and groups `near` it are tried in their order.
        Examples: NK cells go to T cells, plasma cells to B cells, monocytes to macrophages, mural cells to fibroblasts. A lineage narrower
        than any type ("Kupffer cells") gets the whole type, unless another lineage means exactly that type.

        Parameters
        ----------
        types
            Cell types to map.
        lineages
            Names of the lineages.
        file
            Where they come from, for errors: a name may be unknown, or two may mean the same types.

        Returns
        -------
        Cell type → lineage; None where no lineage is near.
        """
        lineage_at = self._place(lineages, file)
        return {cell_type: self._nearest(cell_type, lineage_at) for cell_type in types}

    def _place(self, lineages: Sequence[str], file: Path | str) -> dict[str, str]:
        """Return node → lineage that means it."""
        meant = {name: self._look_up(name, file) for name in lineages}
        placed: dict[str, str] = {}
        # Exact names first, because a narrower one takes the whole type only where no lineage has its name.
        for level in (False, True):
            found: dict[str, str] = {}
            for name, (node, narrow) in meant.items():
                if narrow is level and node in found:
                    problem = f"{found[node]!r} and {name!r} both mean {node}, which has no subtypes here"
                    raise UserError(file, "lineage", problem, "Use one name for both.")
                if narrow is level and node not in placed:
                    found[node] = name
            placed |= found
        return placed

    def _nearest(self, cell_type: str, lineage_at: dict[str, str]) -> str | None:
        for start in (cell_type, *self.nodes[cell_type].near):
            if holders := [name for name in self._above[start] if name in lineage_at]:
                return lineage_at[min(holders, key=self._size)]
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
        raise UserError(file, "lineage", f"{name!r} is not a known cell type or lineage", f"Rename it, such as to {', '.join(near)}.")

    def _index(self) -> dict[str, tuple[str, bool]]:
        names: dict[str, tuple[str, bool]] = {}
        for node in self.nodes.values():
            for narrow, listed in ((False, (node.name, *node.synonyms)), (True, node.narrower)):
                for name in listed:
                    key, place = name_key(name), f"{node.name}, names"
                    if not key:
                        raise UserError(self._file, place, f"{name!r} has no word besides cell", "Remove it.")
                    if names.setdefault(key, (node.name, narrow)) != (node.name, narrow):
                        problem = f"{name!r} has two meanings"
                        raise UserError(self._file, place, problem, "Keep it in one row, either as a synonym or as narrower.")
        return names

    def _check_links(self) -> None:
        for node in self.nodes.values():
            if unknown := [name for name in (*node.parents, *node.near) if name not in self.nodes]:
                raise UserError(
                    self._file, f"{node.name}, parents or near", f"{unknown[0]!r} has no row", "Add one, or use names of the first column."
                )

    def _climb(self, name: str) -> tuple[str, ...]:
        """Return a node and all nodes above it, the nearest first."""
        found = [name]
        for below in found:
            for parent in self.nodes[below].parents:
                if parent == name:
                    raise UserError(self._file, f"{name}, parents", "the parents form a circle", "Remove one of these parents.")
                if parent not in found:
                    found.append(parent)
        return tuple(found)

    def _find_lineage(self, name: str) -> str:
        for part in self.path_of(name):
            if part in LINEAGES.values():
                return part
        raise UserError(
            self._file, f"{name}, parents", "none of them leads to a lineage", f"Add one of {', '.join(sorted(set(LINEAGES.values())))}."
        )


def read_hierarchy(path: Path | str) -> Hierarchy:
    """Read the table of cell types and groups.

    Parameters
    ----------
    path
        Tab-separated, with the attributes of `Node` as columns; lists in a field are separated by semicolons.

    Raises
    ------
    UserError
        If a column is missing, a name occurs twice, a kind is unknown, or an id is not a Cell Ontology id. Also if two cell types without
        a state share an id, or if `Hierarchy` raises it.
    """
    with require(path).open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream, delimiter="\t")
        if missing := [name for name in _COLUMNS if name not in (reader.fieldnames or [])]:
            raise UserError(path, missing[0], "the column is missing", f"Add it; the columns are {', '.join(_COLUMNS)}, separated by tabs.")
        nodes = [_node(path, line, row) for line, row in enumerate(reader, start=2)]
    _check_repeats(path, nodes)
    return Hierarchy(nodes, path)


def _node(path: Path | str, line: int, row: dict[str, str | None]) -> Node:
    text = {name: (row[name] or "").strip() for name in _COLUMNS}
    lists = [tuple(part.strip() for part in text[name].split(";") if part.strip()) for name in _COLUMNS[5:]]
    if text["kind"] not in _KINDS:
        raise UserError(path, f"kind, line {line}", f"{text['kind']!r} is not a kind", f"Use one of {', '.join(_KINDS)}.")
    needed = text["kind"] != "group" or text["name"] in LINEAGES.values()
    if (needed or text["cl_id"]) and not _CL_ID.fullmatch(text["cl_id"]):
        raise UserError(
            path, f"cl_id, line {line}", f"{text['cl_id']!r} is not a Cell Ontology id", "Use CL: and seven digits, such as CL:0000084."
        )
    return Node(text["name"], text["kind"], text["cl_id"], text["cl_name"], text["state"], *lists)


def _check_repeats(path: Path | str, nodes: Sequence[Node]) -> None:
    seen: set[str] = set()
    for node in nodes:
        ids = {node.cl_id} - {""} if not node.state else {f"{node.cl_id}, {node.state}"}
        if repeated := ({node.name} | ids) & seen:
            raise UserError(
                path,
                node.name,
                f"{min(repeated)} occurs twice",
                "Keep one row per name, and fill in the state of cell types that share an id.",
            )
        seen |= {node.name} | ids


HIERARCHY = read_hierarchy(Path(__file__).with_name("types.tsv"))
"""Cell types of this package."""
