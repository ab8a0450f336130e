"""Rule build_report."""

from nuclass_pipeline.report.build import build_report
from nuclass_pipeline.runtime import job, paths

with job(snakemake.log[0], snakemake.threads):
    build_report(
        **paths(snakemake.input),
        **paths(snakemake.output),
        heading=snakemake.params.heading,
        docs=snakemake.params.docs,
    )
