"""The jobs of a run, as Snakemake plans them."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from nuclass_pipeline.config.loading.requirements import without_needs
from nuclass_pipeline.config.loading.run_files import read_run_files
from nuclass_pipeline.config.run import Run
from nuclass_pipeline.errors import UserError, first_line


@dataclass(frozen=True)
class JobPlan:
    """A job that a run has left.

    Attributes
    ----------
    rule
        Its rule.
    wildcards
        Wildcard → value.
    mem_mb
        Memory that it requests, MB.
    gpus
        GPUs that it requests.
    """

    rule: str
    wildcards: Mapping[str, str]
    mem_mb: int
    gpus: int

    @property
    def named(self) -> SimpleNamespace:
        """The wildcards as the functions of rules read them."""
        return SimpleNamespace(**self.wildcards)


def plan_jobs(configfiles: Sequence[Path], targets: Sequence[str]) -> tuple[Run, list[JobPlan]]:
    """Return the run and its jobs that are left, in the order of the plan.

    Parameters
    ----------
    configfiles
        Run files; later ones take precedence.
    targets
        Targets of the workflow, or files; all if there is none.

    Raises
    ------
    UserError
        If a run file, a target or a file of a slide is missing or wrong. Weights and GPUs may be missing.
    """
    # Here, because Snakemake takes seconds to load.
    from snakemake.api import SnakemakeApi
    from snakemake.exceptions import MissingRuleException, RuleException, WorkflowError
    from snakemake.settings.enums import Quietness, RerunTrigger
    from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, ResourceSettings

    read_run_files(configfiles)
    # As in profiles/default, because another plan would not be that of the run.
    triggers = {RerunTrigger.MTIME, RerunTrigger.PARAMS, RerunTrigger.INPUT}
    settings = DAGSettings(targets=frozenset(targets), rerun_triggers=triggers, max_checksum_file_size=10**9, force_incomplete=True)
    with (
        SnakemakeApi(OutputSettings(dryrun=True, quiet={Quietness.ALL}, log_level_override=logging.ERROR)) as api,
        without_needs(),
        redirect_stdout(StringIO()),
    ):
        try:
            loaded = api.workflow(
                resource_settings=ResourceSettings(cores=1),
                config_settings=ConfigSettings(configfiles=[path.resolve() for path in configfiles]),
                snakefile=_snakefile(),
            )
            loaded.dag(settings).printrulegraph()
        except MissingRuleException as error:
            problem = f"no rule makes {', '.join(targets)}" if targets else first_line(error)
            raise UserError("nuclass plan", "target", problem, "Use one of those that docs/outputs.md lists.") from error
        except (WorkflowError, RuleException) as error:
            raise UserError("plan", "jobs", first_line(error), "Run `snakemake -n` with the same run file, which shows more.") from error
        workflow: Any = loaded._workflow
        dag = workflow.dag
        levels = dag.toposorted(set(dag.needrun_jobs()))
        jobs = [job for level in levels for job in sorted(level, key=lambda job: (job.rule.name, str(job.wildcards)))]
        return workflow.globals["run"], [_job(job) for job in jobs]


def _snakefile() -> Path:
    """Return the workflow: of the folder where the command runs, else of the project that holds this code."""
    path = Path("Snakefile")
    return path.resolve() if path.is_file() else Path(__file__).parents[4] / path


def _job(job: Any) -> JobPlan:
    resources = job.resources
    return JobPlan(job.rule.name, dict(job.wildcards_dict), int(resources.get("mem_mb", 0) or 0), int(resources.get("gpu", 0) or 0))
