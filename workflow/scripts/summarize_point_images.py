"""Rule summarize_point_images."""

from nuclass_pipeline.runtime import job, paths
from nuclass_pipeline.summary.point_images import summarize_point_images

with job(snakemake.log[0], snakemake.threads):
    summarize_point_images(
        **paths(snakemake.input),
        **paths(snakemake.output),
        slides=snakemake.params.slides,
    )
