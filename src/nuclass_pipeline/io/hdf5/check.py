"""What an HDF5 file may hold: its objects are inspected before any value is read, and no link is followed.

HDF5 can point to values in any other file of the machine, and a few bytes of it can declare terabytes.
"""

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
from h5py import h5d, h5g, h5l, h5o, h5t, h5z

from nuclass_pipeline.errors import UserError

WINDOWS = "images"
"""The dataset of windows. It may be virtual, as may the blocks that it is made of."""
WINDOW_BLOCKS = "blocks"
"""The group of those blocks."""
ITSELF = "."
"""The name by which a virtual dataset points into its own file."""
MAX_DEPTH = 32
"""Groups inside each other."""
MAX_SHOWN = 80
"""Characters of a name in a message."""
MAX_OBJECTS = 2_000_000
"""Above the number of cells of a slide, because a patch file may hold a dataset for each."""
MAX_CHUNK = 2**29
"""Bytes of one chunk, which is decompressed as a whole."""
MAX_SMALL = 2**28
"""Bytes of a dataset that may grow by any factor."""
MAX_GROWTH = 200
"""How many times its stored size a larger dataset may take in memory; counts grow about tenfold."""
PLAIN_REMEDY = "Write the values into this file itself, as plain arrays, uncompressed or with gzip."


@dataclass(frozen=True)
class Windows:
    """What the virtual windows of a file point into.

    Attributes
    ----------
    files
        Names of the files, as they are written in it.
    dataset
        The dataset of the first window.
    """

    files: frozenset[str]
    dataset: str


class _Dataset:
    """A dataset whose values have not been read."""

    def __init__(self, name: str, dataset: h5d.DatasetID) -> None:
        self.name, self.id = name, dataset
        self.properties = dataset.get_create_plist()
        self.type = dataset.get_type()
        self.layout = self.properties.get_layout()
        self.filters = [self.properties.get_filter(number)[0] for number in range(self.properties.get_nfilters())]

    @property
    def read_in_parts(self) -> bool:
        """Whether the pipeline reads it window by window, so that its size does not matter."""
        return self.holds_windows or self.name.startswith("level_")

    @property
    def holds_windows(self) -> bool:
        """Whether it holds windows, which may be virtual."""
        return self.name == WINDOWS or self.name.startswith(f"{WINDOW_BLOCKS}/")

    @property
    def bytes(self) -> int:
        """Bytes in memory."""
        return math.prod(self.id.shape or ()) * int(self.type.get_size())

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk in memory; 0 without chunks."""
        return math.prod(self.properties.get_chunk()) * int(self.type.get_size()) if self.layout == h5d.CHUNKED else 0

    def largest_chunk(self) -> int:
        """Return the bytes of the largest chunk in the file."""
        sizes = [0]
        self.id.chunk_iter(lambda chunk: sizes.append(max(chunk.size, sizes.pop())))
        return sizes[0]


def _grows(dataset: _Dataset) -> bool:
    if dataset.read_in_parts or dataset.bytes <= MAX_SMALL:
        return False
    return dataset.bytes > MAX_GROWTH * int(dataset.id.get_storage_size())


def _overflows(dataset: _Dataset) -> bool:
    # Because a chunk that is stored in more bytes than it has in memory was not written by HDF5, and inflates without bound.
    deflated = h5z.FILTER_DEFLATE in dataset.filters
    return deflated and dataset.largest_chunk() > dataset.chunk_bytes + dataset.chunk_bytes // 8 + 2**10


REFUSALS: dict[str, Callable[[_Dataset], bool]] = {
    "keeps its values in another file": lambda d: d.properties.get_external_count() > 0,
    f"is virtual, which only {WINDOWS} of a patch file may be": lambda d: d.layout == h5d.VIRTUAL and not d.holds_windows,
    "holds references to other objects": lambda d: bool(d.type.detect_class(h5t.REFERENCE)),
    "has a named type": lambda d: bool(d.type.committed()),
    "is compressed by a filter that is not installed": lambda d: not d.properties.all_filters_avail(),
    "is compressed twice": lambda d: len(set(d.filters)) < len(d.filters),
    f"has chunks of more than {MAX_CHUNK // 2**20} MiB": lambda d: d.chunk_bytes > MAX_CHUNK,
    f"would grow to more than {MAX_GROWTH} times its size in memory": _grows,
    "has a chunk that is larger than the dataset declares": _overflows,
}
"""Problem → whether a dataset has it. The first that applies is reported."""


LINKS = {h5l.TYPE_EXTERNAL: "is a link to another file", h5l.TYPE_SOFT: "is a soft link"}
"""Kind of link → problem. All others but hard links are refused too."""
_CHECKED: dict[tuple[str | int, ...], Windows | None] = {}
"""Files that were inspected in this process."""


def check_objects(path: Path, file: h5py.File, unread: Collection[str] = ()) -> Windows | None:
    """Return what the virtual windows of an open file point into; None without such windows.

    Parameters
    ----------
    path, file
        The file, and the same opened.
    unread
        Objects at its top that are left closed, because nothing reads them.

    Raises
    ------
    UserError
        If an object reaches outside the file by other means, or is larger than what is stored.
    """
    state = Path(file.filename).stat()
    key = (file.filename, state.st_dev, state.st_ino, state.st_mtime_ns, state.st_size, *sorted(unread))
    if key not in _CHECKED:
        found = [windows for dataset in _datasets(path, file, unread) if (windows := _inspect(path, dataset)) is not None]
        _CHECKED[key] = _joined(found)
    return _CHECKED[key]


def list_names(path: Path, file: h5py.File) -> list[str]:
    """Return the names of everything at the top of an open file; nothing is opened."""
    return [name.decode(errors="replace") for name, _ in _links(path, h5g.open(file.id, b"/"))]


def open_dataset(path: Path, file: h5py.File, name: str) -> h5py.Dataset:
    """Open one dataset at the top of an open file, and inspect it as `check_objects` does.

    Raises
    ------
    UserError
        If it is missing, is not a dataset of this file, or is larger than what is stored.
    """
    group, raw = h5g.open(file.id, b"/"), name.encode()
    # Without a slash, because only the last link of a path would be looked at.
    if not raw or b"/" in raw or not group.links.exists(raw):
        raise UserError(path, name[-MAX_SHOWN:], "the dataset is missing", PLAIN_REMEDY)
    _check_link(path, name[-MAX_SHOWN:], group.links.get_info(raw).type)
    entry = h5o.open(group, raw)
    if not isinstance(entry, h5d.DatasetID):
        raise UserError(path, name[-MAX_SHOWN:], "is a group, not a patch", "Keep the datasets of the cells at the top of the file.")
    if _inspect(path, _Dataset(name[-MAX_SHOWN:], entry)) is not None:
        raise UserError(path, name[-MAX_SHOWN:], "is virtual", PLAIN_REMEDY)
    return h5py.Dataset(entry)


def _check_link(path: Path, name: str, kind: int) -> None:
    if kind != h5l.TYPE_HARD:
        raise UserError(path, name, LINKS.get(kind, "is a link of unknown kind"), PLAIN_REMEDY)


def _joined(found: list[Windows]) -> Windows | None:
    """Return what all virtual datasets of a file point into."""
    return Windows(frozenset().union(*(windows.files for windows in found)), found[0].dataset) if found else None


def _datasets(path: Path, file: h5py.File, unread: Collection[str]) -> Iterator[_Dataset]:
    """Yield all datasets of a file, without following links."""
    root = h5g.open(file.id, b"/")
    # A list instead of recursion, because groups may be nested until the stack of HDF5's own visitor overflows.
    waiting = [(root, "", 0)]
    seen = {h5o.get_info(root).addr}
    while waiting:
        group, prefix, depth = waiting.pop()
        for name, kind in _links(path, group):
            full = (prefix + name.decode(errors="replace"))[-MAX_SHOWN:]
            if full in unread and not prefix:
                continue
            _check_link(path, full, kind)
            entry = h5o.open(group, name)
            if isinstance(entry, h5d.DatasetID):
                yield _Dataset(full, entry)
            elif not isinstance(entry, h5g.GroupID):
                raise UserError(path, full, "is neither a group nor a dataset", PLAIN_REMEDY)
            elif depth == MAX_DEPTH or h5o.get_info(entry).addr in seen:
                raise UserError(path, full, f"is a group within itself, or within {MAX_DEPTH} others", PLAIN_REMEDY)
            else:
                seen.add(h5o.get_info(entry).addr)
                waiting.append((entry, f"{full}/", depth + 1))


def _links(path: Path, group: h5g.GroupID) -> list[tuple[bytes, int]]:
    if group.get_num_objs() > MAX_OBJECTS:
        raise UserError(path, "file", f"a group has more than {MAX_OBJECTS} objects", PLAIN_REMEDY)
    found: list[tuple[bytes, int]] = []
    group.links.iterate(lambda name, info: found.append((name, info.type)), info=True)
    return found


def _inspect(path: Path, dataset: _Dataset) -> Windows | None:
    for problem, applies in REFUSALS.items():
        if applies(dataset):
            raise UserError(path, dataset.name, problem, PLAIN_REMEDY)
    layout = dataset.properties
    if dataset.layout != h5d.VIRTUAL or not layout.get_virtual_count():
        return None
    sources = [
        (unescape(layout.get_virtual_filename(n)), unescape(layout.get_virtual_dsetname(n))) for n in range(layout.get_virtual_count())
    ]
    if any(file == ITSELF and (dataset.name != WINDOWS or not name.startswith(f"/{WINDOW_BLOCKS}/")) for file, name in sources):
        raise UserError(path, dataset.name, "points into its own file", PLAIN_REMEDY)
    outside = [name for file, name in sources if file != ITSELF]
    return Windows(frozenset(file for file, _ in sources) - {ITSELF}, outside[0]) if outside else None


def escape(name: str) -> str:
    """Return the name of a file or dataset as the source of a window, where a percent sign has a meaning."""
    return name.replace("%", "%%")


def unescape(name: str) -> str:
    """Return the name of a file or dataset from the source of a window."""
    return name.replace("%%", "%")
