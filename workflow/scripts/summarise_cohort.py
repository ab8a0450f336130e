"""Rule summarise_cohort."""

from nuclass_pipeline.evaluate.cohort import summarise_cohort
from nuclass_pipeline.runtime import job, paths

with job(snakemake.log[0], snakemake.threads):
    summarise_cohort(
        **paths(snakemake.input),
        **paths(snakemake.output),
        **snakemake.params.names,
    )
