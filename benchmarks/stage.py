"""What a stage of the pipeline costs: the other benchmarks run theirs here."""

import multiprocessing
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

SAMPLE_S = 0.5
"""Seconds between two looks at the memory of a stage."""


@dataclass(frozen=True)
class Cost:
    """What a stage took, imports left out, with the processes that it started."""

    seconds: float
    cpu_seconds: float
    peak_gb: float


def measure(work: Callable[..., None], *arguments: object, **named: object) -> Cost:
    """Run `work` in an interpreter of its own, whose memory nothing else has used, and print what it took."""
    # A fork would count the memory of this interpreter.
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    child = context.Process(target=_run, args=(results, work, arguments, named))
    child.start()
    of_others, peak_gb = _watch(child)
    if child.exitcode:
        raise SystemExit(f"{work.__name__} failed (exit code {child.exitcode})")
    seconds, cpu_seconds, own_gb = results.get()
    cost = Cost(seconds, cpu_seconds + of_others, max(own_gb, peak_gb))
    print(f"{work.__name__}: {cost.seconds:.1f} s, {cost.cpu_seconds:.1f} s of one core, peak {cost.peak_gb:.2f} GB", flush=True)
    return cost


def _watch(child: Any) -> tuple[float, float]:
    """Return the seconds of a core that the processes below `child` took, and the largest memory of all together, GB, until it ends."""
    seconds: dict[int, float] = {}
    peak_bytes = 0
    while child.is_alive():
        used_bytes = 0
        with suppress(psutil.NoSuchProcess):
            for process in (psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True)):
                # Proportional, because the processes share the graph.
                used_bytes += process.memory_full_info().pss
                if process.pid != child.pid:
                    seconds[process.pid] = sum(process.cpu_times()[:2])
        peak_bytes = max(peak_bytes, used_bytes)
        child.join(SAMPLE_S)
    return sum(seconds.values()), peak_bytes / 1e9


def _run(results: Any, work: Callable[..., None], arguments: tuple[object, ...], named: dict[str, object]) -> None:
    start, cpu_start = time.perf_counter(), time.process_time()
    work(*arguments, **named)
    # Linux's own mark, because that of getrusage is inherited from the process that started this one.
    lines = Path("/proc/self/status").read_text().splitlines()
    peak_gb = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e9
    results.put((time.perf_counter() - start, time.process_time() - cpu_start, peak_gb))
