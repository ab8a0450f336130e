"""Rule measure_image."""

from nuclass_pipeline.data.segmentation.stage import measure_image
from nuclass_pipeline.runtime import job, paths

with job(snakemake.log[0], snakemake.threads):
    measure_image(
        **paths(snakemake.input),
        **paths(snakemake.output),
        mpp=snakemake.params.mpp,
    )
