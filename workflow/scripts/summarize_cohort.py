"""Rule summarize_cohort."""

from nuclass_pipeline.runtime import job, paths
from nuclass_pipeline.summary.cohort import summarize_cohort

with job(snakemake.log[0], snakemake.threads):
    summarize_cohort(
        **paths(snakemake.input),
        **paths(snakemake.output),
        **snakemake.params.names,
    )
