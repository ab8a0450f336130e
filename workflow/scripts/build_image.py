"""Rule build_image."""

from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.image.pyramid import build_image
from nuclass_pipeline.runtime import job, paths

with job(snakemake.log[0], snakemake.threads):
    build_image(
        **paths(snakemake.input),
        **paths(snakemake.output),
        config=ImageConfig(**snakemake.params.config),
        threads=snakemake.threads,
    )
