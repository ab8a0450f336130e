"""Files that are either whole or absent."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path | str) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` only when the block succeeds."""
    with whole_files(path) as (partial,):
        yield partial


@contextmanager
def whole_files(*paths: Path | str) -> Iterator[list[Path]]:
    """Yield temporary names for several files; none is renamed unless the block succeeds."""
    targets = [Path(path) for path in paths]
    partials = [target.with_name(f".{target.stem}.{os.getpid()}-{socket.gethostname()}.partial{target.suffix}") for target in targets]
    with ExitStack() as cleanup:
        for target, partial in zip(targets, partials, strict=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            _sweep(target)
            cleanup.callback(partial.unlink, missing_ok=True)
        yield partials
        for target, partial in zip(targets, partials, strict=True):
            partial.replace(target)


def _sweep(target: Path) -> None:
    """Remove what writers of `target`, or of a temporary name of it, left behind when they were killed on this machine."""
    for litter in target.parent.glob(f"*.{target.stem}.*-{socket.gethostname()}.partial{target.suffix}"):
        writer = litter.name.split(f".{target.stem}.", 1)[1].split("-")[0]
        if writer.isdigit() and not Path("/proc", writer).exists():
            litter.unlink(missing_ok=True)
