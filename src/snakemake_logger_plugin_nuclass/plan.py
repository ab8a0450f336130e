"""The plan of a run: its jobs, and why they run."""

import shutil
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nuclass_pipeline.layout import BASE
from snakemake_logger_plugin_nuclass.reasons import AGAIN, code_modules, explain_reason
from snakemake_logger_plugin_nuclass.times import PlannedJob, Rest, about, read_times

MAX_REASONS = 8
"""Most reasons that a run names before it starts."""
MAX_OF_RULE = 2
"""Most reasons that a row of the table names."""
MAX_LETTERS = 32
"""Most letters of the slides that a row of the table names."""


@dataclass(frozen=True)
class Plan:
    """The jobs of a run.

    Attributes
    ----------
    jobs
        By their numbers, each after those that it needs.
    cores, gpus
        Cores and GPUs of the run, if it is limited by them.
    """

    jobs: Mapping[int, PlannedJob]
    cores: int | None = None
    gpus: int | None = None

    def time_left(self) -> str:
        """Return the time that earlier runs took for these jobs, in words; empty where it is not known."""
        found = Rest(self.jobs, self.cores, self.gpus).estimate({}, {})
        return about(found[1]).removesuffix(" left") if found else ""

    def table(self) -> list[str]:
        """Return one line per rule: number of jobs, of which slides, and why."""
        rows = [("job", "count", "for", "why")]
        for rule, jobs in _by_rule(self.jobs.values()).items():
            rows.append((rule, str(len(jobs)), _names(job.about for job in jobs), _reasons(jobs)))
        rows.append(("total", str(len(self.jobs)), "", self.time_left()))
        wide = [max(len(row[column]) for row in rows) for column in range(3)]
        rows.insert(1, ("-" * wide[0], "-" * 7, "-" * wide[2], "-" * 3))
        lines = [f"{a:{wide[0]}}  {b:>7}  {c:{wide[2]}}  {d}".rstrip() for a, b, c, d in rows]
        return ["Job stats:", *lines, ""]

    def summary(self) -> list[str]:
        """Return the reasons, each with the rules that it concerns."""
        rules: dict[str, Counter[str]] = defaultdict(Counter)
        for job in self.jobs.values():
            if job.why:
                rules["inputs made again" if job.why.endswith(AGAIN) else job.why][job.rule] += 1
        time = self.time_left()
        lines = [f"{len(self.jobs)} job{'s' if len(self.jobs) > 1 else ''}{f', {time}' if time else ''}:"]
        width = max(shutil.get_terminal_size((100, 24)).columns - 1, 40)
        for why, counts in list(rules.items())[:MAX_REASONS]:
            listed = ", ".join(f"{rule} ×{count}" if count > 1 else rule for rule, count in counts.items())
            lines += textwrap.wrap(f"{why}: {listed}", width, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False)
        if len(rules) > MAX_REASONS:
            lines.append(f"  and {len(rules) - MAX_REASONS} other reasons, which `snakemake -n` lists")
        return lines


def _by_rule(jobs: Iterable[PlannedJob]) -> dict[str, list[PlannedJob]]:
    found: dict[str, list[PlannedJob]] = defaultdict(list)
    for job in jobs:
        found[job.rule].append(job)
    return found


def _names(names: Iterable[str]) -> str:
    listed = [name for name in names if name]
    shown = listed[:1] + [name for name in listed[1:2] if len(listed[0]) + len(name) < MAX_LETTERS]
    return ", ".join(shown) + (f" +{len(listed) - len(shown)}" if len(listed) > len(shown) else "")


def _reasons(jobs: list[PlannedJob]) -> str:
    counts = Counter(job.why for job in jobs).most_common()
    if len(counts) == 1:
        return counts[0][0]
    shown = counts if len(counts) <= MAX_OF_RULE else counts[: MAX_OF_RULE - 1]
    rest = sum(count for _, count in counts[len(shown) :])
    return "; ".join([*(f"{count}: {why}" for why, count in shown), *([f"{rest}: other reasons"] if rest else [])])


def make_plan(workflow: Any, config: Mapping[str, Any]) -> Plan:
    """Return the plan that Snakemake has made.

    Parameters
    ----------
    workflow
        Snakemake's workflow, with its graph of jobs.
    config
        The run file with its defaults.
    """
    dag = workflow.dag
    levels = dag.toposorted(set(dag.needrun_jobs()))
    jobs = [job for level in levels for job in sorted(level, key=lambda job: (job.rule.name, wildcards(job.wildcards_dict)))]
    planned = {dag.jobid(job) for job in jobs}
    # Limits of this machine only, because a cluster has its own scheduler.
    limits = workflow.global_resources if workflow.local_exec else {}
    cores, gpus = (limits[name].value if name in limits else None for name in ("_cores", "gpu"))
    return Plan({dag.jobid(job): _planned(dag, job, planned, config) for job in jobs}, cores, gpus)


def _planned(dag: Any, job: Any, planned: set[int], config: Mapping[str, Any]) -> PlannedJob:
    seconds, rule_seconds = read_times(str(job.benchmark) if job.benchmark else None, job.rule.name)
    records, settings = dag.workflow.persistence, dag.workflow.dag_settings
    return PlannedJob(
        number=dag.jobid(job),
        rule=job.rule.name,
        about=wildcards(job.wildcards_dict),
        why=explain_reason(
            reason=dag.reason(job),
            outputs=list(job.output),
            made_before=any(records.metadata(file) is not None or Path(file).exists() for file in job.output),
            params=dict(job.params.items()),
            config=config,
            code=_modules(job.rule),
            forced=bool(settings.forceall or settings.forcerun or settings.forcetargets),
        ),
        threads=int(job.threads),
        gpus=int(job.resources.get("gpu", 0)),
        attempts=int(job.restart_times) + 1,
        after=tuple(number for before in dag.dependencies[job] if (number := dag.jobid(before)) in planned),
        seconds=seconds,
        rule_seconds=rule_seconds,
    )


def _modules(rule: Any) -> str:
    with suppress(OSError, TypeError):
        return code_modules(rule.name, Path(rule.snakefile).read_text(encoding="utf-8"))
    return ""


def wildcards(values: Mapping[str, str] | None) -> str:
    """Return the wildcards of a job in words, such as `demo-lung-1 seed 0`."""
    # Without the base, because it is nearly always the only variant.
    shown = {name: value for name, value in (values or {}).items() if (name, value) != ("variant", BASE)}
    slide = [value for name, value in shown.items() if name == "slide"]
    return " ".join([*slide, *(value if name == "variant" else f"{name} {value}" for name, value in shown.items() if name != "slide")])
