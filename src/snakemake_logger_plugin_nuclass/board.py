"""Which jobs of a run have begun, run and ended, and the line about each."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snakemake_logger_plugin_nuclass.plan import Plan
from snakemake_logger_plugin_nuclass.tails import Tail
from snakemake_logger_plugin_nuclass.times import Rest, about, duration

REPEAT_S = 30.0
"""Least time between two lines about one job, where lines stay."""


@dataclass
class Running:
    """A job that runs.

    Attributes
    ----------
    place
        Its place in the order in which jobs began, from 1.
    message
        What it does, as its rule says.
    begun
        When it began, seconds.
    tail
        Its progress.
    makes_files
        Whether it makes files, and is no target.
    shown
        When a line about its progress was last printed, and the text of it.
    """

    place: int
    message: str
    begun: float
    tail: Tail
    makes_files: bool
    shown: tuple[float, str] = field(default=(0.0, ""))


class Board:
    """The jobs of a run, as its events go by.

    Parameters
    ----------
    plan
        The plan of the run.
    begun
        When the run began, seconds.
    """

    def __init__(self, plan: Plan, begun: float) -> None:
        self.jobs, self.begun = plan.jobs, begun
        self.rest = Rest(plan.jobs, plan.cores, plan.gpus)
        self.running: dict[int, Running] = {}
        self.places: dict[int, int] = {}
        self.failures: Counter[int] = Counter()

    def start(self, record: Any, now: float) -> str:
        """Return the line about a job that begins."""
        number, logs = int(record.jobid), list(record.log or ())
        place = self.places.setdefault(number, len(self.places) + 1)
        message = record.rule_msg or f"Target {record.rule_name}: all that it needs is made."
        tail = Tail(Path(logs[0]) if logs else None)
        self.running[number] = Running(place, message, now, tail, bool(record.output), (now, ""))
        return f"{self._place(place)} {message}" + (f" Log: {logs[0]}" if logs else "")

    def finish(self, number: int, now: float) -> str | None:
        """Return the line about a job that has ended well; nothing for a target, which has made no file."""
        job = self.running.pop(number, None)
        self.rest.finished[number] = now - job.begun if job else 0.0
        if job is None or not job.makes_files:
            return None
        left = self.time_left(now)
        return f"{self._place(job.place)} Done in {duration(now - job.begun)}: {job.message}{f' ({left})' if left else ''}"

    def fail(self, number: int) -> bool:
        """Note that a job has failed, and return whether it is tried again."""
        self.running.pop(number, None)
        self.failures[number] += 1
        return number in self.jobs and self.failures[number] < self.jobs[number].attempts

    def look(self, now: float) -> None:
        """Read how far the running jobs are."""
        for job in self.running.values():
            job.tail.look(now)

    def time_left(self, now: float) -> str:
        """Return per cent done and time left of the run, as far as they are known."""
        done = len(self.rest.finished)
        if done >= len(self.jobs):
            return ""
        elapsed = {number: now - job.begun for number, job in self.running.items()}
        left = {number: seconds for number, job in self.running.items() if (seconds := job.tail.seconds_left(now)) is not None}
        if (found := self.rest.estimate(elapsed, left)) is None:
            return f"{100 * done // len(self.jobs)} %"
        return f"{min(100 * found[0], 99):.0f} %, {about(found[1])}"

    def lines(self, now: float) -> list[str]:
        """Return a line per running job, below it one about its progress, and one about the run."""
        rows = [line for job in sorted(self.running.values(), key=lambda job: job.place) for line in self._status(job, now)]
        last = f"{len(self.rest.finished)} of {len(self.jobs)} jobs done in {duration(now - self.begun)}: {self.time_left(now)}"
        return [*rows, last]

    def news(self, now: float) -> Iterator[str]:
        """Yield a line about each job that has come further, not more than one in half a minute."""
        for job in self.running.values():
            text = job.tail.last.text if job.tail.last else ""
            if text != job.shown[1] and now - job.shown[0] >= REPEAT_S:
                job.shown = (now, text)
                yield ": ".join(line.strip() for line in self._status(job, now))

    def _status(self, job: Running, now: float) -> list[str]:
        left = job.tail.seconds_left(now)
        time = about(left) if left is not None else f"{duration(now - job.begun)} so far"
        return [f"{self._place(job.place)} {job.message} {time}", *([f"    {job.tail.last.text}"] if job.tail.last else [])]

    def _place(self, place: int) -> str:
        total = str(len(self.jobs))
        return f"[{place:>{len(total)}} of {total}]"
