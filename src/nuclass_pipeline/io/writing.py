"""Files that are either whole or absent."""

import glob
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from nuclass_pipeline.errors import explain_machine


@contextmanager
def whole_file(path: Path | str) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` only when the block succeeds."""
    with whole_files(path) as (partial,):
        yield partial


@contextmanager
def whole_files(*paths: Path | str) -> Iterator[list[Path]]:
    """Yield temporary names for several files; none is renamed unless the block succeeds.

    Raises
    ------
    UserError
        If the disk is full, or the folder cannot be written.
    """
    targets = [Path(path) for path in paths]
    partials = [_temporary(target) for target in targets]
    try:
        with ExitStack() as cleanup:
            for target, partial in zip(targets, partials, strict=True):
                target.parent.mkdir(parents=True, exist_ok=True)
                _sweep(target)
                cleanup.callback(partial.unlink, missing_ok=True)
            yield partials
            for target, partial in zip(targets, partials, strict=True):
                partial.replace(target)
    except (OSError, RuntimeError) as error:
        if explained := explain_machine(error, targets[0]):
            raise explained from error
        raise


def _temporary(target: Path) -> Path:
    # Random, because a link that somebody put under a name known beforehand would be written through.
    owner = f"{os.getpid()}-{secrets.token_hex(8)}-{socket.gethostname()}"
    return target.with_name(f".{target.stem}.{owner}.partial{target.suffix}")


def _sweep(target: Path) -> None:
    """Remove what writers of `target`, or of a temporary name of it, left behind when they were killed on this machine."""
    stem, suffix = glob.escape(target.stem), glob.escape(target.suffix)
    for litter in target.parent.glob(f"*.{stem}.*-{socket.gethostname()}.partial{suffix}"):
        writer = litter.name.split(f".{target.stem}.", 1)[1].split("-")[0]
        if writer.isdigit() and not Path("/proc", writer).exists():
            litter.unlink(missing_ok=True)
