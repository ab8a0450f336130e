"""Rule summarize_overviews."""

from nuclass_pipeline.runtime import job, paths
from nuclass_pipeline.summary.overviews import summarize_overviews

with job(snakemake.log[0], snakemake.threads):
    summarize_overviews(
        **paths(snakemake.input),
        **paths(snakemake.output),
        slides=snakemake.params.slides,
    )
