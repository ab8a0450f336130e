"""Times: how long jobs took, and how long the rest of a run takes."""

import csv
import statistics
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

FEW = 1 / 3
"""Share of the jobs whose times must be known before their mean stands for the others."""


@dataclass(frozen=True)
class PlannedJob:
    """A job of the plan.

    Attributes
    ----------
    number
        Snakemake's number of the job.
    rule, about, why
        Its rule, its wildcards, and why it runs.
    threads, gpus
        Cores and GPUs that it takes.
    after
        Numbers of the planned jobs that must end before it.
    seconds
        How long the same job took in an earlier run, if that is known.
    rule_seconds
        How long jobs of its rule took in earlier runs, if that is known.
    attempts
        How often it is tried.
    """

    number: int
    rule: str
    about: str = ""
    why: str = ""
    threads: int = 1
    gpus: int = 0
    attempts: int = 1
    after: tuple[int, ...] = ()
    seconds: float | None = None
    rule_seconds: float | None = None


def read_times(benchmark: str | None, rule: str) -> tuple[float | None, float | None]:
    """Return how long a job and the other jobs of its rule took in earlier runs, seconds, from their benchmark files."""
    if benchmark is None:
        return None, None
    path = Path(benchmark)
    runs = path.parents[2] if path.parent.name == rule else path.parents[1]
    return _mean([path]), _rule_mean(runs, rule)


@cache  # Because a plan asks for every job, and a rule may have thousands.
def _rule_mean(runs: Path, rule: str) -> float | None:
    return _mean([*runs.glob(f"*/{rule}/*.tsv"), *runs.glob(f"*/{rule}.tsv")])


def _mean(paths: Iterable[Path]) -> float | None:
    found = []
    for path in paths:
        # A file may be half written by a run that was killed, or gone.
        with suppress(OSError, ValueError, KeyError, StopIteration), path.open(encoding="utf-8", newline="") as stream:
            found.append(float(next(csv.DictReader(stream, delimiter="\t"))["s"]))
    return statistics.fmean(found) if found else None


@dataclass
class Rest:
    """What is left of a run.

    Attributes
    ----------
    jobs
        All planned jobs by their numbers, in an order in which each comes after those that it needs.
    cores, gpus
        Cores and GPUs of the run, if it is limited by them.
    finished
        Number → seconds of each finished job.
    """

    jobs: Mapping[int, PlannedJob]
    cores: int | None
    gpus: int | None = None
    finished: dict[int, float] = field(default_factory=dict)

    def estimate(self, elapsed: Mapping[int, float], left: Mapping[int, float]) -> tuple[float, float] | None:
        """Return the share of the run that is done and the seconds that are left, or nothing while too little is known.

        Parameters
        ----------
        elapsed
            Number of a running job → seconds since its start.
        left
            Number of a running job → seconds left, where its log says how far it is.
        """
        rest: dict[int, float] = {}
        means = _rule_means(self.jobs, self.finished)
        known = [seconds for job in self.jobs.values() if (seconds := _expected(job, means)) is not None]
        mean = statistics.fmean(known) if len(known) > FEW * len(self.jobs) else None
        for number, job in self.jobs.items():
            if number in self.finished:
                continue
            expected = _expected(job, means)
            if (expected := mean if expected is None else expected) is None:
                return None
            rest[number] = _left(job, expected - elapsed.get(number, 0), left.get(number))
        done, work = self._work({**elapsed, **self.finished}), self._work(rest)
        on_gpus = sum(seconds * self.jobs[number].gpus for number, seconds in rest.items())
        shared = [work / self.cores if self.cores else 0, on_gpus / self.gpus if self.gpus else 0]
        return done / (done + work or 1), max(self._longest_chain(rest), *shared)

    def _work(self, seconds: Mapping[int, float]) -> float:
        cores = self.cores or max(job.threads for job in self.jobs.values())
        return sum(value * min(self.jobs[number].threads, cores) for number, value in seconds.items() if number in self.jobs)

    def _longest_chain(self, rest: Mapping[int, float]) -> float:
        ends: dict[int, float] = {}
        for number, job in self.jobs.items():
            ends[number] = rest.get(number, 0) + max((ends.get(before, 0) for before in job.after), default=0)
        return max(ends.values(), default=0)


def _expected(job: PlannedJob, means: Mapping[str, float]) -> float | None:
    """Return how long a job takes: as the same job did, or as its rule did in this run, or in earlier ones."""
    return next((seconds for seconds in (job.seconds, means.get(job.rule), job.rule_seconds) if seconds is not None), None)


def _left(job: PlannedJob, by_time: float, by_log: float | None) -> float:
    """Return the seconds that a job still takes, from its expected time and from its log."""
    if by_log is None:
        return max(by_time, 0)
    # The smaller, because a training may stop before the last epoch, to which its log counts, as it did in the earlier run.
    return min(by_log, by_time) if job.seconds is not None and by_time > 0 else by_log


def _rule_means(jobs: Mapping[int, PlannedJob], finished: Mapping[int, float]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for number, seconds in finished.items():
        if number in jobs:
            found.setdefault(jobs[number].rule, []).append(seconds)
    return {rule: statistics.fmean(values) for rule, values in found.items()}


def duration(seconds: float) -> str:
    """Return a time in words, such as `6 min 28 s`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def about(seconds: float) -> str:
    """Return an estimated time in words, such as `about 12 min left`."""
    if seconds < 45:
        return "less than a minute left"
    minutes = max(round(seconds / 60), 1)
    return f"about {minutes} min left" if minutes < 90 else f"about {minutes // 60} h {minutes % 60:02d} min left"
