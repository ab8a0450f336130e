"""What a case is, and the doors: a stage in its job, the command line, and Snakemake."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CANARY = "canary-7f3a91"
"""Text of the files outside a case's folder; it must turn up in nothing that a case writes."""

Step = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """One wrong input.

    Attributes
    ----------
    kind, name
        Group of the table, and what to call it.
    wrong
        What is wrong, in a few words.
    make
        Makes the input in the working directory, which holds copies of `needs`.
    door
        What a user would run, in the same directory.
    expects
        Verdicts that are right: of `refused`, `warned`, `accepted`.
    says
        Pattern that the error or the warning must match, such as the file at fault.
    check
        For `accepted` and `warned`: raises AssertionError if what was written is wrong.
    mend
        For `refused`: follows the remedy of the message, given as text; the door must then end well.
    needs
        Folders of `phantoms` to copy.
    cpu_s
        Limit of processor time, s.
    """

    kind: str
    name: str
    wrong: str
    make: Step
    door: Step
    expects: str = "refused"
    says: str = ""
    check: Step | None = None
    mend: Callable[[str], None] | None = None
    needs: tuple[str, ...] = ("small",)
    cpu_s: float = 60.0


def nothing() -> None:
    """Change nothing."""


def both(*steps: Step) -> Step:
    """Return the steps one after the other as one."""

    def run() -> None:
        for step in steps:
            step()

    return run


def stage(function: str, **named: Any) -> Step:
    """Return a job that runs a stage function, named as `module:function`, as the workflow's script does."""

    def run() -> None:
        from nuclass_pipeline.runtime import job, load_entry

        Path("out").mkdir(exist_ok=True)
        with job("job.log", 1):
            load_entry(function)(**{name: value() if callable(value) else value for name, value in named.items()})

    return run


def command(*words: str) -> Step:
    """Return the command `nuclass` with these arguments."""

    def run() -> None:
        from nuclass_pipeline.cli import main

        Path("out").mkdir(exist_ok=True)
        sys.argv = ["nuclass", *words]
        main()

    return run


def snakemake(*words: str, project: str = "project") -> Step:
    """Return the command `snakemake` with these arguments, in the project's folder."""

    def run() -> None:
        import os

        from snakemake.cli import main

        os.chdir(project)
        sys.argv = ["snakemake", *words]
        main(list(words))

    return run


def write(path: str, content: str | bytes, encoding: str = "utf-8") -> Step:
    """Return the step that writes a file."""

    def run() -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(content if isinstance(content, bytes) else content.encode(encoding))

    return run


def replace(path: str, old: str, new: str, encoding: str = "utf-8") -> Step:
    """Return the step that replaces text, which must be there."""

    def run() -> None:
        text = Path(path).read_text(encoding="utf-8")
        assert old in text, f"{old!r} is not in {path}"
        Path(path).write_bytes(text.replace(old, new).encode(encoding))

    return run


def remove(*names: str) -> Step:
    """Return the step that removes files or folders."""

    def run() -> None:
        for name in names:
            shutil.rmtree(name) if Path(name).is_dir() and not Path(name).is_symlink() else Path(name).unlink()

    return run


def cut(path: str, share: float) -> Step:
    """Return the step that keeps the first share of a file's bytes."""

    def run() -> None:
        content = Path(path).read_bytes()
        Path(path).write_bytes(content[: int(len(content) * share)])

    return run


def fifo(path: str) -> Step:
    """Return the step that puts a FIFO, from which nothing ever comes, in place of a file."""

    def run() -> None:
        import os

        Path(path).unlink(missing_ok=True)
        os.mkfifo(path)

    return run


def link(path: str, target: str) -> Step:
    """Return the step that puts a symbolic link in place of a file."""

    def run() -> None:
        Path(path).unlink(missing_ok=True)
        Path(path).symlink_to(target)

    return run


def rows_of(table: str) -> Any:
    """Return a written Parquet table."""
    import pandas as pd

    return pd.read_parquet(table)
