"""Rule summarise_registration."""

from nuclass_pipeline.runtime import job, paths
from nuclass_pipeline.summary.registration import summarise_registration

with job(snakemake.log[0], snakemake.threads):
    summarise_registration(
        **paths(snakemake.input),
        **paths(snakemake.output),
        organs=snakemake.params.organs,
    )
