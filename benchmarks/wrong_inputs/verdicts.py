"""From what a case left behind to its verdict."""

import re
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.wrong_inputs.case import CANARY, Case

MEMORY_MB = 2000
SLOW_S = 10.0
RIGHT = {"answered": "refused", "warned": "warned", "accepted": "accepted"}
_LOG_ERROR = re.compile(r"^\S+ \S+ ERROR nuclass\S+: (.*)$", re.MULTILINE)
_LOG_WARNING = re.compile(r"^\S+ \S+ WARNING \S+: (.*)$", re.MULTILINE)
_LINE = re.compile(r"^error: (.*)$", re.MULTILINE)
_PROBLEM = re.compile(r"^ (.*?)\s{2,}(.*?)\s{2,}problem\s*$", re.MULTILINE)
_NOTE = re.compile(r"^ (.*?)\s{2,}(.*?)\s{2,}note\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """The verdict on a case, with the message, the time and the memory."""

    case: Case
    verdict: str
    message: str
    cpu_s: float
    wall_s: float
    peak_mb: float

    @property
    def right(self) -> bool:
        """Whether the case ended as it should."""
        return RIGHT.get(self.verdict, "") in self.case.expects.split(" or ") and self.verdict in RIGHT


def judge(case: Case, folder: Path, record: dict[str, Any], killed: str, peak_mb: float, first: Outcome | None) -> Outcome:
    """Return the verdict on a case that ended; `first` is the outcome before its remedy was followed."""
    output = _text(folder / "output.txt")
    log = _text(folder / "here/job.log")
    peak_mb = max(peak_mb, record.get("peak_mb", 0.0))
    cost = (record.get("cpu_s", 0.0), record.get("wall_s", 0.0), peak_mb)
    verdict, message = _verdict(case, folder, record, killed, output, log)
    if first is not None:
        if record.get("code") == 0 and not killed:
            return first
        return replace(first, verdict="wrong", message=f"the remedy does not work: {first.message} >>> {message}")
    if verdict in RIGHT and peak_mb > MEMORY_MB:
        verdict = "memory"
    if verdict in RIGHT and cost[0] > case.cpu_s:
        verdict = "slow"
    return Outcome(case, verdict, message, *cost)


def _verdict(case: Case, folder: Path, record: dict[str, Any], killed: str, output: str, log: str) -> tuple[str, str]:
    if "broken" in record:
        return "broken case", record["broken"]
    if escaped := _escaped(folder, output + log):
        return "escaped", escaped
    if killed:
        return killed.split()[0].rstrip(":"), f"{killed}; {_last(output + log)}"
    if "Traceback (most recent call last)" in output + log or any(line.startswith("unexpected ") for line in _LOG_ERROR.findall(log)):
        return "traceback", _last(output + log)
    if record.get("code") == 0:
        return _ended_well(case, folder, output, log)
    return _refused(case, folder, output, log)


def _refused(case: Case, folder: Path, output: str, log: str) -> tuple[str, str]:
    messages = _LOG_ERROR.findall(log) or _LINE.findall(output)
    problems = [f"{what}: {found}" for what, found in _PROBLEM.findall(output)]
    usage = re.findall(r"(?:^│ |error: )(.*?)\s*│?$", output, re.MULTILINE) if "Usage: " in output or "usage: " in output else []
    message = " / ".join(messages[-1:] or problems or usage)
    if not message:
        return "traceback" if len(output.strip().splitlines()) > 3 else "wrong", f"no line `error: …`: {_last(output)}"
    if "refused" not in case.expects:
        return "wrong", f"refused, though it is legal: {message}"
    if messages and not re.search(r"[.?] \S", message):
        return "wrong", f"no remedy: {message}"
    if messages and not log and output.strip().splitlines()[-1].removeprefix("error: ") != messages[-1]:
        return "wrong", f"the message is not last: {message} … {_last(output)}"
    if ".partial" in message:
        return "wrong", f"names a temporary file: {message}"
    if len(set(messages)) > 1:
        return "wrong", f"more than one line: {' / '.join(messages)}"
    if case.says and not re.search(case.says, message, re.IGNORECASE):
        return "wrong", f"does not say {case.says!r}: {message}"
    if left := [path.name for path in (folder / "here/out").glob("**/*") if _made(path)]:
        return "wrong", f"left half-written {', '.join(left[:5])}: {message}"
    return "answered", message


def _ended_well(case: Case, folder: Path, output: str, log: str) -> tuple[str, str]:
    warnings = [*_LOG_WARNING.findall(log), *(f"{what}: {found}" for what, found in _NOTE.findall(output))]
    warnings += re.findall(r"^.*warning: (.*)$", output, re.MULTILINE | re.IGNORECASE)
    said = [warning for warning in warnings if re.search(case.says, warning, re.IGNORECASE)]
    if case.check is not None and (wrong := _check(case, folder)):
        return "wrong", wrong
    if hidden := [warning for warning in warnings if ".partial" in warning]:
        return "wrong", f"names a temporary file: {hidden[0]}"
    if "warned" in case.expects and said:
        return "warned", said[0]
    if "accepted" in case.expects:
        return "accepted", ""
    others = f"warnings: {' / '.join(warnings) or 'none'}"
    return (
        ("wrong", f"does not warn of {case.says!r}; {others}")
        if warnings and "warned" in case.expects
        else ("silent", f"ended well; {others}")
    )


def _check(case: Case, folder: Path) -> str:
    import os

    before = Path.cwd()
    os.chdir(folder / "here")
    try:
        if case.check is not None:
            case.check()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        os.chdir(before)
    return ""


def _escaped(folder: Path, text: str) -> str:
    if network := _text(folder / "network.txt"):
        return f"network: {network.split()[0]}"
    if CANARY in text:
        return "the content of a file outside is in the output"
    if (folder / "outside/target.txt").read_text() != "as it was\n" or len(list((folder / "outside").iterdir())) != 2:
        return "something was written outside"
    for path in (folder / "here/out").glob("**/*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 50 * 10**6 and _holds_canary(path):
            return f"{path.name} holds the content of a file outside"
    return ""


def _made(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and "registration_failed" not in path.name


def _holds_canary(path: Path) -> bool:
    content = path.read_bytes()
    if CANARY.encode() in content:
        return True
    try:
        return CANARY.encode() in zlib.decompress(content, 47)
    except zlib.error:
        return False


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""


def _last(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else "nothing printed"
