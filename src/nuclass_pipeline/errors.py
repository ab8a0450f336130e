"""The one exception that reaches users, and the failures of the machine that become it."""

import difflib
import errno
import os
import re
import resource
from collections.abc import Iterable
from pathlib import Path

_SPACE = "Free space on that disk, or move results/ to a larger one and put a symbolic link in its place; then run again."
_RIGHTS = "Give yourself the right to read and write there (`chmod u+rwX`), or work in a folder of your own."
_REMEDIES = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: "Raise the limit on the size of files: `ulimit -f unlimited`.",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: "Work on a disk that can be written, or mount this one for writing.",
    errno.EMFILE: "Raise the limit on open files: `ulimit -n 8192`; then run again.",
    errno.ENFILE: "Close other programs: the machine's limit on open files is reached.",
    errno.ENOTDIR: "A file has the name of a folder: move it to another place, then run again.",
    errno.EIO: "The disk or its network failed; have it checked, then run again.",
    errno.ESTALE: "The network disk was mounted again while the file was open; run again.",
    errno.ENOLCK: "The network disk offers no locks: `export HDF5_USE_FILE_LOCKING=FALSE`; then run again.",
}
_NO_MEMORY = re.compile(
    r"(can't|cannot|could not|unable to|failed to) allocate|out of (shared )?memory|bad_?alloc|failed to map segment|insufficient memory"
    r"|memory allocation (still )?failed|malloc of size|MemoryError|can't start new thread|killed by signal: Killed|excessive memory usage",
    re.IGNORECASE,
)
MORE_MEMORY = "Run fewer jobs at once (a smaller `--cores`), or give the job more memory (docs/troubleshooting.md)."
# All that torch says of a file that it cannot write to its end.
_TORCH_WRITER = re.compile(r"PytorchStreamWriter|basic_ios|unexpected pos \d+ vs")
_ROOM_BYTES = 65536
_PARTIAL = re.compile(r"^\.+(?P<stem>.+?)\.\d+-[^/]*\.partial(?P<suffix>(\.\w+)?)$")


class UserError(Exception):
    """A mistake in the input that the user can correct, reported in one line.

    Parameters
    ----------
    file
        The file at fault.
    field
        The column, key or dataset in it.
    problem
        What is wrong, with the value found.
    remedy
        What to do about it.
    """

    def __init__(self, file: Path | str, field: str, problem: str, remedy: str) -> None:
        self.file, self.field, self.problem, self.remedy = str(file), field, problem, remedy
        stop = "" if problem.endswith(("?", ".")) else "."
        super().__init__(" ".join(f"{file}: {field}: {problem}{stop} {remedy}".split()))

    def __reduce__(self) -> tuple[type["UserError"], tuple[str, str, str, str]]:
        """Return how it is made again in another process."""
        return type(self), (self.file, self.field, self.problem, self.remedy)


def similar(name: str, names: Iterable[object]) -> str:
    """Return `, did you mean 'x'?` with the most similar of `names`, whatever the case; empty where none is similar."""
    known = {str(found).casefold(): str(found) for found in names}
    close = difflib.get_close_matches(name.casefold(), known, n=1)
    return f", did you mean {known[close[0]]!r}?" if close else ""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its class where it has none."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def explain_machine(error: BaseException, path: Path | str) -> UserError | None:
    """Return the one line about a full disk, a missing right or a limit, or nothing if `error` is about something else.

    Parameters
    ----------
    error
        What was raised. HDF5, Arrow and torch hide the number in their text, so the text is searched too.
    path
        What was read or written, if the error does not name it.
    """
    number = next((code for code in _REMEDIES if getattr(error, "errno", None) == code), None) or _number_in(str(error))
    if number is None:
        return None
    named = getattr(error, "filename", None) or next(iter(re.findall(r"name = '([^']+)'", str(error))), None) or path
    return UserError(_without_partial(Path(os.fsdecode(named))), "file", os.strerror(number), _REMEDIES[number])


def explain_full_disk(folders: Iterable[Path]) -> UserError | None:
    """Return the one line about the first of `folders` whose disk has no room for a log, or nothing."""
    for folder in (folder for folder in folders if folder.is_dir()):
        disk = os.statvfs(folder)
        if disk.f_bavail * disk.f_frsize < _ROOM_BYTES or (disk.f_files and not disk.f_favail):
            return UserError(folder, "disk", os.strerror(errno.ENOSPC), _SPACE)
    return None


def explain_memory(error: BaseException) -> UserError | None:
    """Return the one line about too little memory, of the machine or of the GPU, or nothing if `error` is about something else."""
    text = first_line(error)
    if "CUDA" in text and "out of memory" in text:
        return UserError("GPU", "memory", f"it is full ({text})", "Reduce `batch_size` in the run file, or use a GPU with more memory.")
    if isinstance(error, MemoryError) or _NO_MEMORY.search(text):
        return UserError("memory", "limit", f"{memory_limit_mb()} MB are not enough ({text})", MORE_MEMORY)
    return None


def memory_limit_mb() -> int:
    """Return how much memory this process may use: the least of the machine's, its control group's and `ulimit -v`."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), resource.getrlimit(resource.RLIMIT_AS)[0]]
    for line in _lines(Path("/proc/self/cgroup")):
        _, controllers, group = line.split(":", 2)
        name = Path("memory", group.strip("/"), "memory.limit_in_bytes") if controllers else Path(group.strip("/"), "memory.max")
        limits += [int(found) for found in _lines(Path("/sys/fs/cgroup", name)) if found.isdigit()]
    return min(limit for limit in limits if limit > 0) // 10**6


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _number_in(text: str) -> int | None:
    if found := re.search(r"errno[ =\]]*(\d+)", text, re.IGNORECASE):
        return int(found[1]) if int(found[1]) in _REMEDIES else None
    if _TORCH_WRITER.search(text):
        return errno.ENOSPC
    return next((code for code in _REMEDIES if os.strerror(code) in text), None)


def _without_partial(path: Path) -> Path:
    while found := _PARTIAL.match(path.name):  # Nested, because a writer may write a temporary file of a temporary file.
        path = path.with_name(found["stem"] + found["suffix"])
    return path
