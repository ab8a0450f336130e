"""Processes of jobs: how they begin, and how they end when the run is stopped."""

import shlex
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from snakemake.shell import shell

NO_INTERRUPT = "trap '' INT; "
"""What the shell of each job begins with, and by which it is found."""
SCRIPTS = ".snakemake/scripts/"
"""Folder of the scripts, by which a job is found whose shell has made room for it."""
LOOK_S = 0.2
"""Time between two looks for processes."""
GRACE_S = 5.0
"""Time from the request to end until a process is killed; a library in C may not hear the request."""


class Output:
    """The file of what jobs print before their logs begin.

    Attributes
    ----------
    path
        The file, or None before `begin_jobs`.
    """

    path: Path | None = None

    def __init__(self) -> None:
        self.read = 0

    def news(self) -> str:
        """Return what is new since the last call."""
        if self.path is None or not self.path.is_file():
            return ""
        text = self.path.read_bytes()[self.read :]
        self.read += len(text)
        return text.decode("utf-8", errors="replace")

    def close(self) -> None:
        """Remove the file if nothing is in it."""
        with suppress(OSError):
            if self.path and not self.path.stat().st_size:
                self.path.unlink()


def begin_jobs(folder: Path) -> None:
    """Begin each job such that Ctrl-C does not reach it, and what it prints before its log begins goes to a file.

    `end_jobs` ends the jobs instead, because a Python that gets Ctrl-C while it loads libraries prints a traceback.
    """
    words = f"set -euo pipefail; {NO_INTERRUPT}"
    with suppress(OSError):  # A run needs no such file; a folder that cannot be written has its own error.
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix="jobs-", suffix=".log", dir=folder, delete=False) as file:
            Output.path = Path(file.name)
        words += f"exec 2>>{shlex.quote(file.name)}; "
    shell.prefix(words.replace("{", "{{").replace("}", "}}"))


def end_jobs(ended: threading.Event) -> None:
    """End the processes of all jobs, also of those that are just beginning, until the run has ended."""
    asked: dict[psutil.Process, float] = {}
    while not ended.wait(LOOK_S):
        for process in _processes():
            with suppress(psutil.Error):
                if process not in asked:
                    process.terminate()
                asked.setdefault(process, time.monotonic())
        for process in [process for process, since in asked.items() if time.monotonic() > since + GRACE_S]:
            with suppress(psutil.Error):
                for each in [*process.children(recursive=True), process]:
                    each.kill()


def _processes() -> list[psutil.Process]:
    """Return the program of each job, below the shell that began it."""
    found: list[psutil.Process] = []
    for process in psutil.Process().children():
        with suppress(psutil.Error):
            # Not the commands of a cluster, because they end its jobs.
            command = " ".join(process.cmdline())
            if NO_INTERRUPT in command:
                # The shell itself only where it is alone, because its end would hide the program.
                found += process.children() or [process]
            elif SCRIPTS in command:
                found.append(process)
    return found
