"""Rule import_trio."""

from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.trio.stage import import_trio
from nuclass_pipeline.runtime import job, paths

with job(snakemake.log[0], snakemake.threads):
    import_trio(
        **paths(snakemake.input),
        **paths(snakemake.output),
        organ=snakemake.params.organ,
        own=snakemake.params.own,
        config=ImageConfig(**snakemake.params.config),
    )
