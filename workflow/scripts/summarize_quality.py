"""Rule summarize_quality."""

from nuclass_pipeline.runtime import job, paths
from nuclass_pipeline.summary.quality import summarize_quality

with job(snakemake.log[0], snakemake.threads):
    summarize_quality(
        **paths(snakemake.input),
        **paths(snakemake.output),
        slides=snakemake.params.slides,
    )
