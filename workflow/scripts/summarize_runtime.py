"""Rule summarize_runtime."""

from nuclass_pipeline.runtime import job, paths
from nuclass_pipeline.summary.runtime import summarize_runtime

with job(snakemake.log[0], snakemake.threads):
    summarize_runtime(
        **paths(snakemake.output),
        benchmarks=snakemake.params.benchmarks,
    )
