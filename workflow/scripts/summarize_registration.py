"""Rule summarize_registration."""

from nuclass_pipeline.runtime import job, paths
from nuclass_pipeline.summary.registration import summarize_registration

with job(snakemake.log[0], snakemake.threads):
    summarize_registration(
        **paths(snakemake.input),
        **paths(snakemake.output),
        organs=snakemake.params.organs,
    )
