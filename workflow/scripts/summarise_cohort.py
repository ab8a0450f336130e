"""Rule summarise_cohort."""

from nuclass_pipeline.runtime import job, paths
from nuclass_pipeline.summary.cohort import summarise_cohort

with job(snakemake.log[0], snakemake.threads):
    summarise_cohort(
        **paths(snakemake.input),
        **paths(snakemake.output),
        **snakemake.params.names,
    )
