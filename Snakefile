"""NuClass pipeline: `snakemake --cores 2` runs the demo; add `--configfile config/paper.yaml` for the paper."""

from snakemake.utils import min_version

from nuclass_pipeline import config as settings
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.provenance import code_version

min_version("9.27")


# Used only with `--sdm apptainer`; envs/Dockerfile makes it.
container: "docker://nuclass-pipeline:0.1.0"


if not workflow.configfiles:

    configfile: workflow.source_path("config/demo.yaml")


try:
    cfg = settings.load(config, root=workflow.basedir, file=workflow.configfiles[-1])
except UserError as error:
    raise SystemExit(f"error: {error}") from None


pathvars:
    results=f"results/{cfg.config.run}",
    logs=f"logs/{cfg.config.run}",
    benchmarks=f"benchmarks/{cfg.config.run}",


wildcard_constraints:
    slide=cfg.pattern(),
    model="local|global|gate",
    seed=r"\d+",


include: "workflow/rules/slides.smk"
include: "workflow/rules/labels.smk"
include: "workflow/rules/domains.smk"
include: "workflow/rules/programs.smk"
include: "workflow/rules/patches.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/cohort.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/attribution.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        rules.slides.input,
        rules.figures.input,
        rules.tables.input,
        rules.build_report.output,
