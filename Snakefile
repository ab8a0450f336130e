"""NuClass pipeline: `snakemake --cores 2` runs the demo; add `--configfile config/paper.yaml` for the paper."""

from snakemake.utils import min_version

from nuclass_pipeline.config.compute import by_attempt
from nuclass_pipeline.config.models import SCORED_MODELS
from nuclass_pipeline.config.run import load_run
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.figures import list_figures
from nuclass_pipeline.layout import SYNTHETIC_TRUTH, UNPACKED_MANIFEST, files, for_model
from nuclass_pipeline.provenance import code_version
from nuclass_pipeline.tables import list_tables

min_version("9.27")


# Used only with `--sdm apptainer`; envs/Dockerfile makes it.
container: "docker://nuclass-pipeline:0.1.0"


if not workflow.configfiles:

    configfile: workflow.source_path("config/demo.yaml")


try:
    run = load_run(config, root=workflow.basedir, file=workflow.configfiles[-1])
    FIGURES, TABLES = list_figures(run), list_tables(run)
except UserError as error:
    raise SystemExit(f"error: {error}") from None


pathvars:
    results=f"results/{run.config.run}",
    logs=f"logs/{run.config.run}",
    benchmarks=f"benchmarks/{run.config.run}",


wildcard_constraints:
    slide=run.pattern(),
    model="|".join(SCORED_MODELS),
    seed=r"\d+",


for name in (
    "bundles slides images patches expression labels models features"
    " predictions evaluation summaries figures targets"
).split():

    include: f"workflow/rules/{name}.smk"


rule all:
    default_target: True
    input:
        rules.slides.input,
        rules.classification.input,
        rules.figures.input,
        rules.tables.input,
        files.report,
