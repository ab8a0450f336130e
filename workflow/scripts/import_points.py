"""Rule import_points."""

from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.points.stage import import_points
from nuclass_pipeline.runtime import job, paths

with job(snakemake.log[0], snakemake.threads):
    import_points(
        **paths(snakemake.input),
        **paths(snakemake.output),
        own=snakemake.params.own,
        config=ImageConfig(**snakemake.params.config),
    )
