"""Logging, threads and devices of a job: what a workflow script needs around its one call into the package."""

import errno
import faulthandler
import fcntl
import importlib
import logging
import operator
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, TextIO, TypeVar

from nuclass_pipeline.errors import UserError, explain_machine, explain_memory, first_line

logger = logging.getLogger(__name__)
Item = TypeVar("Item")

PROGRESS_S = 10.0
"""Least time between two lines about the progress of a job."""
UNEXPECTED = "unexpected"
"""First word of the line about an error that is a mistake of the program."""
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}
_READ_ONLY = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def job(path: Path | str, threads: int) -> Iterator[None]:
    """Run one job's stage on `threads` threads, with logging, stdout and stderr in its log file.

    The last line of a log is `finished in …`, or an ERROR that says why the job failed; any other log is of a job that was killed.
    An error that is neither a mistake of the user nor a failure of the machine has its traceback above that line.
    """
    terminal = sys.stderr
    with _open_log(Path(path), terminal) as stream, redirect_stdout(stream), redirect_stderr(stream):
        logging.basicConfig(stream=stream, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
        logging.getLogger("fontTools").setLevel(logging.WARNING)  # It logs every glyph of every PDF.
        faulthandler.enable(stream)
        previous = signal.signal(signal.SIGTERM, _stop)
        try:
            limit_threads(threads)
            begun = time.monotonic()
            with printed_to(stream):
                yield
            logger.info("finished in %.1f s", time.monotonic() - begun)
        except (Exception, KeyboardInterrupt) as error:
            _report(error, Path(path), terminal)
            raise SystemExit(1) from None
        finally:
            signal.signal(signal.SIGTERM, previous)
            faulthandler.disable()


@contextmanager
def printed_to(stream: TextIO) -> Iterator[None]:
    """Write to a file what the process prints, also from libraries in C."""
    with ExitStack() as after, redirect_stdout(stream), redirect_stderr(stream):
        for number in (1, 2):
            saved = os.dup(number)
            after.callback(os.close, saved)
            after.callback(os.dup2, saved, number)
            os.dup2(stream.fileno(), number)
        yield


def _open_log(path: Path, terminal: TextIO) -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("w", buffering=1, encoding="utf-8")
    except OSError as error:
        print(f"error: {explain_machine(error, path) or error}", file=terminal)
        raise SystemExit(1) from None


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def _report(error: BaseException, log: Path, terminal: TextIO) -> None:
    line = _in_one_line(error, log)
    try:
        if line.startswith(UNEXPECTED):
            logger.error("the job failed", exc_info=error)
        logger.error("%s", line)
        sys.stderr.flush()
    except OSError:  # A full disk may hold no log either.
        print(f"error: {line}", file=terminal)


def _in_one_line(error: BaseException, log: Path) -> str:
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "stopped from outside. Run again to continue."
    if explained := explain_memory(error) or explain_machine(error, log.parent):
        return str(explained)
    return f"{UNEXPECTED} {type(error).__name__}: {first_line(error)}. Please report it with this log."


@contextmanager
def one_line() -> Iterator[None]:
    """Report a mistake of the user that the block meets in one line, and end the program."""
    try:
        yield
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("stopped") from None


def claim(results: Path | str, *folders: Path | str, shared: bool = False) -> None:
    """Reserve a folder of a run until this process ends, and test that it and `folders` can be written.

    Several processes may hold a folder that each of them reserves as `shared`, to read what is in it. It may be read-only.

    Raises
    ------
    UserError
        If another process holds it, or a folder cannot be written.
    """
    lock = Path(results, ".lock")
    try:
        for folder in (results, *folders):
            Path(folder).mkdir(parents=True, exist_ok=True)
            if not shared:
                with tempfile.TemporaryFile(dir=folder):
                    pass
        # Never closed, because the system takes the lock away when this process ends, however it ends.
        held = os.open(lock, (os.O_RDONLY if shared else os.O_RDWR) | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        fcntl.flock(held, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        # Emptied, because a process that wrote its name and ended is not the one that holds the lock.
        os.truncate(lock, 0)
        if not shared:
            os.write(held, f"process {os.getpid()} on {socket.gethostname()}".encode())
    except BlockingIOError:
        raise UserError(results, "run", f"{lock.read_text() or 'another process'} works on it", "Wait until it ends, or stop it.") from None
    except OSError as error:
        if error.errno in _NO_LOCKS:
            logger.warning("%s: this disk offers no locks, so do not start two runs of one study at once", results)
        elif not shared or error.errno not in _READ_ONLY:
            raise explain_machine(error, results) or error from None
        elif not lock.exists():
            logger.warning("%s: it is read-only and holds no .lock, so another run could change it while this one reads it", results)


def limit_threads(threads: int) -> None:
    """Limit BLAS, OpenMP, numba and torch, whichever are loaded, to `threads` threads."""
    import threadpoolctl

    threadpoolctl.threadpool_limits(threads)
    for library in ("torch", "numba"):
        if library in sys.modules:
            sys.modules[library].set_num_threads(threads)


def log_progress(share: float, text: str) -> None:
    """Log how far a stage is, from 0 to 1, as the screen of a run shows it.

    The line is `progress 44.60 %: 4,096 of 9,188 rows`.
    """
    logger.info("progress %.2f %%: %s", 100 * share, text)


def track(items: Iterable[Item], total: int, unit: str, each: int = 1, part: tuple[float, float] = (0, 1)) -> Iterator[Item]:
    """Yield the items, and log the progress through them, at most one line in ten seconds.

    Parameters
    ----------
    items
        What a stage works through, one after the other.
    total, unit
        How much there is of what, such as 9,188 rows.
    each
        How much of it an item is.
    part
        Shares of the job at which the items begin and end.
    """
    shown, (begin, end) = time.monotonic(), part
    log_progress(begin, f"0 of {total:,} {unit}")
    for number, item in enumerate(items, start=1):
        yield item
        done = min(number * each, total)
        if done == total or time.monotonic() >= shown + PROGRESS_S:
            shown = time.monotonic()
            log_progress(begin + (end - begin) * done / total, f"{done:,} of {total:,} {unit}")


def paths(files: Any) -> dict[str, Any]:
    """Return the named inputs or outputs of a rule as paths, so that a rule's names are its stage function's arguments."""
    return {name: [Path(file) for file in value] if isinstance(value, list) else Path(value) for name, value in files.items()}


def load_entry(entry: str) -> Any:
    """Import what a registry names as `module:object` in the package, such as `labeling.rules:Rules.fit`."""
    module, _, path = entry.partition(":")
    return operator.attrgetter(path)(importlib.import_module(f"nuclass_pipeline.{module}"))


def pick_device(gpu: int, key: str = "compute.gpu", devices: int = 1) -> str:
    """Return `cuda` if the run file gives the job a GPU, by this key, else `cpu`.

    Raises
    ------
    UserError
        If the run file requests a GPU and torch finds none, or fewer than `devices`.
    """
    if not gpu:
        return "cpu"
    import torch

    if not torch.cuda.is_available():
        raise UserError("run file", key, "is 1, but torch finds no GPU", "Set it to 0, or see `nuclass doctor`.")
    if (found := torch.cuda.device_count()) < devices:
        problem = f"is {devices}, but torch finds {found} GPU{'s' if found > 1 else ''}"
        hint = f" On a cluster, start the run with `--resources gpu={devices}`." if "SLURM_JOB_ID" in os.environ else ""
        remedy = f"Set it to {found}.{hint}"
        raise UserError("run file", "compute.devices", problem, remedy)
    return "cuda"


def stay_offline() -> None:
    """Keep the libraries of Hugging Face off the network, because weights are files that the user has downloaded."""
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
    if constants := sys.modules.get("huggingface_hub.constants"):  # They read the variable once, when they are imported.
        vars(constants)["HF_HUB_OFFLINE"] = True
