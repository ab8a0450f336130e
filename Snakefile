"""NuClass pipeline: `snakemake --cores 2` runs the demo; add `--configfile config/paper.yaml` for the paper."""

from snakemake.utils import min_version

from nuclass_pipeline.config.models import SCORED_MODELS
from nuclass_pipeline.config.run import load_workflow
from nuclass_pipeline.figures import list_figures
from nuclass_pipeline.labeling.hand_made import check_hand_made
from nuclass_pipeline.layout import SYNTHETIC_TRUTH, UNPACKED_MANIFEST
from nuclass_pipeline.layout import files, for_model, of_base
from nuclass_pipeline.provenance import code_version, content
from nuclass_pipeline.records import restore_records
from nuclass_pipeline.runtime import one_line
from nuclass_pipeline.tables import list_tables

min_version("9.27")


container: "docker://nuclass-pipeline:0.1.0"  # only with `--sdm apptainer`; envs/Dockerfile makes it


if not workflow.configfiles:

    configfile: f"{workflow.basedir}/config/demo.yaml"


# Ignored with --directory, which moves the results; inputs are found from here either way.
workdir: workflow.basedir


with one_line():
    run = load_workflow(workflow, config, check_hand_made)
    FIGURES, TABLES = list_figures(run), list_tables(run)
    restore_records(run.folders["results"], run.folders["slides"])


pathvars:
    **run.path_parts,


wildcard_constraints:
    **run.constraints,


for name in (
    "bundles slides images points patches expression labels models features"
    " predictions evaluation variants warnings summaries quality exports figures report targets"
).split():

    include: f"workflow/rules/{name}.smk"


rule all:
    default_target: True
    input:
        rules.labels.input,
        rules.classification.input,
        rules.figures.input,
        rules.tables.input,
        files.report,
