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


for name in (
    "bundles slides segmentation labels domains programs review patches models features"
    " evaluation cohort figures attribution classification label_report tables report"
).split():

    include: f"workflow/rules/{name}.smk"


rule all:
    default_target: True
    input:
        rules.slides.input,
        rules.classification.input,
        rules.figures.input,
        rules.tables.input,
        rules.build_report.output,
