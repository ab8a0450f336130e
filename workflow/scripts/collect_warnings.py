"""Rule collect_warnings."""

from nuclass_pipeline.runtime import job, paths
from nuclass_pipeline.summary.warnings import collect_warnings

with job(snakemake.log[0], snakemake.threads):
    collect_warnings(
        **paths(snakemake.input),
        **paths(snakemake.output),
    )
