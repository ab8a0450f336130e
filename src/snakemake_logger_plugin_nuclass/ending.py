"""The last lines of a run: what it made, where, and what comes next."""

import shlex
import shutil
import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

FEW_FILES = 3
"""So many files are named one by one."""
MAX_WARNINGS = 3
"""Most warnings of the run that are named."""


def requested_files(dag: Any) -> set[str]:
    """Return the files that the command requested."""
    files = {str(file) for file in dag.targetfiles}
    for job in dag.targetjobs:
        made = {str(file) for file in (job.output or job.input)}
        files |= set() if made & files else made
    return files


def summarize(files: Collection[str], results: Path, made: str) -> list[str]:
    """Return what a run made, its warnings, and the next command.

    Parameters
    ----------
    files
        Files that the command requested.
    results
        Folder of the run.
    made
        How many jobs were done in what time, in words.
    """
    report = results / "report.html"
    lines = [made] if made else []
    if len(files) <= FEW_FILES:
        lines += [f"Made: {file}" if made else f"Up to date: {file}" for file in sorted(files)]
    else:
        lines.append(f"Results: {results}")
    if str(report) not in files or not report.is_file():
        return lines
    lines += [f"Report: {report}"] if len(files) > FEW_FILES else []
    return [*lines, *_warnings(results), f"Next: {_next(results, report)}"]


def _warnings(results: Path) -> list[str]:
    from nuclass_pipeline.errors import UserError
    from nuclass_pipeline.results import open_run
    from nuclass_pipeline.tables.summary import warnings_in_short

    with suppress(UserError, OSError, ValueError):  # The summary is not worth a failure: the run has ended well.
        return warnings_in_short(open_run(results).warnings(), MAX_WARNINGS)
    return []


def _next(results: Path, report: Path) -> str:
    printed = "scores" if (results / "metrics/base/heldout.parquet").is_file() else "labels"
    return f"`{shlex.join([_beside('nuclass'), 'summary', str(results)])}` prints the {printed}; open {report} in a browser."


def _beside(program: str) -> str:
    """Return a program as it is typed: by its name if it is found so, else in the folder of this Python."""
    if shutil.which(program):
        return program
    # Not resolved, because the Python of an environment is a link to another one.
    path, here = Path(sys.executable).absolute().with_name(program), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def same_command(words: Sequence[str]) -> str:
    """Return the command line as it was typed."""
    program = Path(words[0])
    name = [program.name if shutil.which(program.name) == str(program) else str(program)]
    if program.name == "__main__.py":
        name = ["python", "-m", program.parent.name]
    return shlex.join([*name, *words[1:]])
