"""Rule embed_windows."""

from nuclass_pipeline.config.backbones.section import BackboneConfig
from nuclass_pipeline.config.compute import Compute
from nuclass_pipeline.runtime import job, paths, pick_device
from nuclass_pipeline.train.features.windows import embed_windows

with job(snakemake.log[0], snakemake.threads):
    embed_windows(
        **paths(snakemake.input),
        **paths(snakemake.output),
        compute=Compute.of(snakemake.resources),
        device=pick_device(snakemake.resources.gpu),
        config=BackboneConfig(**snakemake.params.config),
    )
