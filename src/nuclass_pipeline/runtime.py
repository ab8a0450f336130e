"""Logging, threads and devices of a job: what a workflow script needs around its one call into the package."""

import importlib
import logging
import operator
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from nuclass_pipeline.errors import UserError

logger = logging.getLogger(__name__)


@contextmanager
def job(path: Path | str, threads: int) -> Iterator[None]:
    """Run one job's stage on `threads` threads, with logging, stdout and stderr in its log file.

    A log whose last line is not `finished in …` belongs to a job that failed or was killed.
    A `UserError` ends the job with one line, in the log and on the terminal; any other error keeps its traceback.
    """
    terminal = sys.stderr
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("w", buffering=1) as stream, redirect_stdout(stream), redirect_stderr(stream):
        logging.basicConfig(stream=stream, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
        logging.getLogger("fontTools").setLevel(logging.WARNING)  # It logs every glyph of every PDF.
        try:
            limit_threads(threads)
            begun = time.monotonic()
            yield
            logger.info("finished in %.1f s", time.monotonic() - begun)
        except UserError as error:
            logger.error("%s", error)
            print(f"error: {error}", file=terminal)
            raise SystemExit(1) from None
        except Exception:
            logger.exception("the job failed")
            raise


def limit_threads(threads: int) -> None:
    """Limit BLAS, OpenMP, numba and torch, whichever are loaded, to `threads` threads."""
    import threadpoolctl

    threadpoolctl.threadpool_limits(threads)
    for library in ("torch", "numba"):
        if library in sys.modules:
            sys.modules[library].set_num_threads(threads)


def paths(files: Any) -> dict[str, Any]:
    """Return the named inputs or outputs of a rule as paths, so that a rule's names are its stage function's arguments."""
    return {name: [Path(file) for file in value] if isinstance(value, list) else Path(value) for name, value in files.items()}


def load_entry(entry: str) -> Any:
    """Import what a registry names as `module:object` in the package, such as `labeling.evidence:Rules.fit`."""
    module, _, path = entry.partition(":")
    return operator.attrgetter(path)(importlib.import_module(f"nuclass_pipeline.{module}"))


def pick_device(gpu: int) -> str:
    """Return `cuda` if the run file gives the job a GPU, else `cpu`.

    Raises
    ------
    UserError
        If the run file requests a GPU and torch finds none.
    """
    if not gpu:
        return "cpu"
    import torch

    if not torch.cuda.is_available():
        raise UserError("run file", "compute.gpu", "is 1, but torch finds no GPU", "Set it to 0, or see `nuclass doctor`.")
    return "cuda"
