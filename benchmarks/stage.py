"""What a stage of the pipeline costs: the other benchmarks run theirs here."""

import multiprocessing
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Cost:
    """What a stage took, imports left out."""

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
    child.join()
    if child.exitcode:
        raise SystemExit(f"{work.__name__} failed")
    cost: Cost = results.get()
    print(f"{work.__name__}: {cost.seconds:.1f} s, {cost.cpu_seconds:.1f} s of one core, peak {cost.peak_gb:.2f} GB", flush=True)
    return cost


def _run(results: Any, work: Callable[..., None], arguments: tuple[object, ...], named: dict[str, object]) -> None:
    start, cpu_start = time.perf_counter(), time.process_time()
    work(*arguments, **named)
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    results.put(Cost(time.perf_counter() - start, time.process_time() - cpu_start, peak_gb))
