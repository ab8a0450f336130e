"""Why a job failed: from its log, from what it printed before its log began, and from how it ended."""

import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

ERROR = re.compile(r"^[-\d]+ [:,\d]+ ERROR [\w.]+: (.+)$", re.MULTILINE)
CRASH = re.compile(r"^Fatal Python error: (.+)$", re.MULTILINE)
MEMORY = re.compile(r"memory: limit: (\d+) MB are not enough \((.*)\)\. ")
"""The line of a job that met an error about memory."""
RAISED = re.compile(r"^(?:error: (.+)|[\w.]*(?:Error|Exception)\b.*)$", re.MULTILINE)
"""The last line of a traceback, or the line of a job that cannot write its log."""
MAX_CHARS = 100_000
"""Most of the end of a log that is searched."""


def find_cause(record: Any, begun: Any, printed: str) -> str:
    """Return why a job failed; a cause that the log does not name is added to it.

    Parameters
    ----------
    record
        The event of the failed job.
    begun
        The event of its start, if it was seen.
    printed
        What jobs printed before their logs began.
    """
    logs = [Path(log) for log in record.log or ()]
    found = _end_of(logs[0], begun) if logs else ""
    text = found or ""
    named = ERROR.findall(text)
    cause = (_out_of_memory(text or printed, begun) if not named or MEMORY.match(named[-1]) else named[-1]) or _other(text, printed)
    cause = cause or _killed(record, begun, logs, begun_log=found is not None)
    if logs and cause not in named:
        _add_line(logs[0], f"{record.rule_name}: {cause}", "w" if found is None else "a")
    return cause


def _end_of(log: Path, begun: Any) -> str | None:
    """Return the end of a log, or None if the job has not begun it."""
    with suppress(OSError):
        # Older than the job where an earlier run wrote it; a second less, because the clock of a network disk may differ.
        if log.stat().st_mtime >= getattr(begun, "created", 0) - 1:
            return log.read_text(encoding="utf-8", errors="replace")[-MAX_CHARS:]
    return None


def _out_of_memory(text: str, begun: Any) -> str | None:
    """Return the line about too little memory if the text has one of a library or of a job."""
    from nuclass_pipeline.errors import explain_memory

    lines = [line for line in text.splitlines() if explain_memory(RuntimeError(line))]
    if not lines:
        return None
    if job := MEMORY.search(lines[-1]):
        return _with_limits(f"out of memory ({job[2]})", begun, job[1])
    return _with_limits(f"out of memory ({lines[-1].removeprefix('  what():').strip()})", begun)


def _other(text: str, printed: str) -> str | None:
    if crashed := CRASH.findall(text or printed):
        return f"crashed ({crashed[-1]}). Please report it with this log."
    if not text and (raised := list(RAISED.finditer(printed))):
        return raised[-1][1] or f"ended before its log began: {raised[-1][0]}"
    return None


def _killed(record: Any, begun: Any, logs: Sequence[Path], begun_log: bool) -> str:
    from nuclass_pipeline.errors import explain_full_disk

    if full := explain_full_disk([log.parent for log in logs]):
        return str(full)
    if record.rule_msg:  # On a cluster, how the job ended.
        return " ".join(str(record.rule_msg).split())
    return _with_limits(f"{'killed' if begun_log else 'ended before its log began'}, probably out of memory", begun)


def _with_limits(what: str, begun: Any, limit_mb: int | str = 0) -> str:
    from nuclass_pipeline.errors import MORE_MEMORY, memory_limit_mb

    requested = getattr(begun.resources, "mem_mb", None) if begun else None
    return f"{what}: {f'requested {requested} MB, ' if requested else ''}limit {limit_mb or memory_limit_mb()} MB. {MORE_MEMORY}"


def _add_line(log: Path, line: str, mode: str) -> None:
    # Not worth a failure, because the screen has the line too.
    with suppress(OSError):
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open(mode, encoding="utf-8") as stream:
            stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')},000 ERROR {__name__}: {line}\n")
