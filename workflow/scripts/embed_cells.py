"""Rule embed_cells."""

from nuclass_pipeline.config.compute import Compute
from nuclass_pipeline.runtime import job, paths, pick_device
from nuclass_pipeline.train.features.cells import embed_cells

with job(snakemake.log[0], snakemake.threads):
    embed_cells(
        **paths(snakemake.input),
        **paths(snakemake.output),
        organ=snakemake.params.organ,
        compute=Compute.of(snakemake.resources),
        device=pick_device(snakemake.resources.gpu),
    )
