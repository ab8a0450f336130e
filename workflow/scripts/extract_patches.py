"""Rule extract_patches."""

from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.image.patches import extract_patches
from nuclass_pipeline.runtime import job, paths

with job(snakemake.log[0], snakemake.threads):
    extract_patches(
        **paths(snakemake.input),
        **paths(snakemake.output),
        slide=snakemake.wildcards.slide,
        organ=snakemake.params.organ,
        config=ImageConfig(**snakemake.params.config),
    )
