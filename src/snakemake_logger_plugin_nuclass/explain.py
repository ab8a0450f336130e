"""Errors of Snakemake and of jobs, each in one line."""

import re
import sys
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from snakemake_logger_plugin_nuclass.failures import find_cause

REPORTED_BY_JOBS = {"RuleException", "CalledProcessError"}
"""Exceptions around the error of a job, which has its own line."""
EMPTY = {"Wildcards:", "Traceback:", "Error:"}
"""Headings of what Snakemake leaves out."""


def explain_job(record: Any, begun: Any, printed: str = "") -> str:
    """Return `rule, slide: why it failed (log)`.

    Parameters
    ----------
    record
        The event of the failed job.
    begun
        The event of its start, with its wildcards and resources, if it was seen.
    printed
        What jobs printed before their logs began.
    """
    wildcards = dict(begun.wildcards or {}) if begun else {}
    of = "".join(f", {value}" if name == "slide" else f", {name} {value}" for name, value in wildcards.items())
    logs = [Path(log) for log in record.log or ()]
    return f"{record.rule_name}{of}: {find_cause(record, begun, printed)}" + (f" Log: {logs[0]}" if logs and logs[0].is_file() else "")


def explain_error(text: str, exception: str, targets: Sequence[str]) -> str | None:
    """Return the message of an error of Snakemake itself in one line, or nothing if a job has reported it.

    Parameters
    ----------
    text
        What Snakemake would print, with places in its own source.
    exception
        Class of the error.
    targets
        What can be typed as a target.
    """
    if exception in REPORTED_BY_JOBS or "At least one job did not complete successfully" in text:
        return None
    # Raised by an input function, which Snakemake reports with its wildcards.
    if found := re.search(r"^UserError: (.+)$", text, re.MULTILINE):
        return found[1]
    if missing := re.search(r"^No rule to produce (\S+) ", text, re.MULTILINE):
        return _unknown_target(missing[1], targets)
    if "Target rules may not contain wildcards" in text:
        (name, *_) = [word for word in sys.argv[1:] if word in targets] or ["it"]
        remedy = f"`--until {name}` runs it for all; docs/outputs.md has the files that it makes."
        return f"{name}: target: the rule works on one slide at a time. {remedy}"
    return wrong_run_file(sys.argv) or " ".join(_message_lines(text))


def _unknown_target(name: str, targets: Sequence[str]) -> str:
    from nuclass_pipeline.errors import similar

    near = similar(name, targets)
    remedy = "docs/outputs.md lists the targets and the files of a run." if near else "`snakemake --list-target-rules` lists the targets."
    return f"{name}: target: no rule makes it{near}{'' if near else '.'} {remedy}"


def wrong_run_file(words: Sequence[str]) -> str | None:
    """Return what is wrong with a file after `--configfile`, which Snakemake reads before the workflow can, or nothing.

    Parameters
    ----------
    words
        The command line.
    """
    from nuclass_pipeline.config.loading.run_files import read_run_files
    from nuclass_pipeline.errors import UserError

    names = [word for word in words if word.startswith("--configfile=")]
    for start in (place for place, word in enumerate(words) if word in {"--configfile", "--configfiles"}):
        names += takewhile(lambda word: not word.startswith("-"), words[start + 1 :])
    try:
        read_run_files(name.removeprefix("--configfile=") for name in names)
    except UserError as error:
        return str(error)
    return None


def _message_lines(text: str) -> list[str]:
    """Return the lines of the message without places in the source; of a Python traceback the last line."""
    if "Traceback (most recent call last)" in text:
        return [_machine(text.strip().splitlines()[-1])]
    lines = [line.strip() for line in text.splitlines() if not line.lstrip().startswith("File ")]
    if len(lines) > 1 and re.match(r"\w+(Error|Exception|Exit)( in .*)?:$", lines[0]):
        lines = lines[1:]
    return [line for line in lines if line and line not in EMPTY]


def _machine(line: str) -> str:
    """Return a line such as `PermissionError: [Errno 13] Permission denied: 'x'` with its remedy, if there is one."""
    from nuclass_pipeline.errors import explain_machine

    found = re.match(r"\w+: \[Errno (\d+)\] ([^:]+)(?:: '(.*)')?$", line)
    if not found:
        return f"unexpected {line}. Add --verbose for its place."
    number, problem, path = int(found[1]), found[2], found[3] or "."
    return str(explain_machine(OSError(number, problem, path), path) or f"{path}: file: {problem}.")
