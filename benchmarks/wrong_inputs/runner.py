"""Runs the cases: a process each, forked from one that has the libraries loaded, watched for time, memory and what it touches."""

import json
import os
import re
import resource
import shutil
import signal
import socket
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.wrong_inputs.case import CANARY, Case, Step
from benchmarks.wrong_inputs.verdicts import Outcome, judge

MEMORY_LIMIT_MB = 6000
"""A process that grows beyond is ended; more than `verdicts.MEMORY_MB` is a failure."""
FILE_LIMIT_BYTES = 3 * 10**9
_LOCAL = ("127.0.0.1", "localhost", "::1", b"localhost", None, "")


@dataclass
class Running:
    """A case under way."""

    case: Case
    folder: Path
    pid: int
    began: float
    message: str = ""
    killed: str = ""
    peak_mb: float = 0.0
    cpu_s: float = 0.0
    first: Any = None
    phase: str = "door"
    notes: list[str] = field(default_factory=list)


def run_cases(cases: list[Case], phantoms: Path, work: Path, jobs: int, report: Any) -> list[Outcome]:
    """Run the cases, `jobs` at a time; `report` gets each outcome as it comes."""
    waiting, running, outcomes = list(reversed(cases)), [], []
    while waiting or running:
        while waiting and len(running) < jobs:
            running.append(_start(waiting.pop(), phantoms, work))
        time.sleep(0.02)
        for item in list(running):
            if not _ended(item):
                continue
            running.remove(item)
            if again := _mended(item):
                running.append(again)
                continue
            outcome = judge(item.case, item.folder, _record(item), item.killed, item.peak_mb, item.first)
            outcomes.append(outcome)
            report(outcome)
            shutil.rmtree(item.folder, ignore_errors=True) if outcome.right else None
    return outcomes


def _start(case: Case, phantoms: Path, work: Path) -> Running:
    folder = work / f"{case.kind}-{re.sub(r'[^A-Za-z0-9]+', '-', case.name)}"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "here").mkdir(parents=True)
    (folder / "outside").mkdir()
    (folder / "outside/secret.txt").write_text(f"{CANARY}\n" * 20000)
    (folder / "outside/target.txt").write_text("as it was\n")
    for name in case.needs:
        shutil.copytree(phantoms / name, folder / "here", dirs_exist_ok=True)
    return Running(case, folder, _fork(folder, case.make, case.door), time.monotonic())


def _fork(folder: Path, make: Step | None, door: Step) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    if pid := os.fork():
        return pid
    os.setsid()
    output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(folder / "here")
    os.environ["COLUMNS"] = "200"
    if make is not None:
        _make_apart(folder, make)
    code = 1
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_LIMIT_BYTES, FILE_LIMIT_BYTES))
    _watch_network(folder)
    start = time.process_time()
    wall = time.monotonic()
    try:
        door()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        record = {"code": code, "cpu_s": time.process_time() - start, "wall_s": time.monotonic() - wall, "peak_mb": peak_mb}
        (folder / "record.json").write_text(json.dumps(record))
        os._exit(code)


def _make_apart(folder: Path, make: Step) -> None:
    """Run `make` in a process of its own, because its memory is not the door's."""
    if pid := os.fork():
        if os.waitpid(pid, 0)[1]:
            (folder / "record.json").write_text(json.dumps({"broken": (folder / "output.txt").read_text()[-2000:]}))
            os._exit(3)
        return
    code = 1
    try:
        make()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _watch_network(folder: Path) -> None:
    connect, lookup = socket.socket.connect, socket.getaddrinfo

    def watched(host: Any) -> None:
        # Names below .invalid exist nowhere, so asking for one is harmless.
        if host not in _LOCAL and not str(host).endswith(".invalid"):
            with (folder / "network.txt").open("a") as file:
                print(host, file=file)
            raise OSError(101, "Network is unreachable")

    def watched_connect(self: socket.socket, address: Any) -> Any:
        if isinstance(address, tuple):
            watched(address[0])
        return connect(self, address)

    def watched_lookup(host: Any, *arguments: Any, **named: Any) -> Any:
        watched(host)
        return lookup(host, *arguments, **named)

    socket.socket.connect, socket.getaddrinfo = watched_connect, watched_lookup  # type: ignore[method-assign,assignment]


def _ended(item: Running) -> bool:
    pid, status = os.waitpid(item.pid, os.WNOHANG)
    if pid:
        if os.WIFSIGNALED(status) and not item.killed:
            item.killed = f"killed by signal {os.WTERMSIG(status)}"
        _end_group(item.pid)
        return True
    try:
        lines = Path(f"/proc/{item.pid}/status").read_text()
        times = Path(f"/proc/{item.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    item.peak_mb = max(item.peak_mb, _kilobytes(lines, "VmHWM") / 1000)
    cpu_s = (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
    wall_s = time.monotonic() - item.began
    if item.peak_mb > MEMORY_LIMIT_MB:
        item.killed = item.killed or f"memory beyond {MEMORY_LIMIT_MB} MB"
    if cpu_s > item.case.cpu_s + 5 or wall_s > 4 * item.case.cpu_s + 60:
        item.killed = item.killed or f"timeout: {cpu_s:.0f} s of processor, {wall_s:.0f} s"
    if item.killed:
        _end_group(item.pid)
    return False


def _kilobytes(text: str, name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+)", text)
    return int(found[1]) if found else 0


def _end_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    except PermissionError:
        return


def _record(item: Running) -> dict[str, Any]:
    path = item.folder / "record.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _mended(item: Running) -> Running | None:
    """Start a refused case again after following its remedy."""
    case = item.case
    if case.mend is None or item.first is not None or item.killed:
        return None
    first = judge(case, item.folder, _record(item), item.killed, item.peak_mb, None)
    if first.verdict != "answered":
        return None
    mend = case.mend
    (item.folder / "record.json").unlink()
    (item.folder / "here/job.log").unlink(missing_ok=True)
    pid = _fork(item.folder, lambda: mend(first.message), case.door)
    return Running(case, item.folder, pid, time.monotonic(), first=first)
