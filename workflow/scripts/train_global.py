"""Rule train_global."""

from pathlib import Path

from nuclass_pipeline.config.compute import Compute
from nuclass_pipeline.config.models import GlobalConfig
from nuclass_pipeline.runtime import job, paths, pick_device
from nuclass_pipeline.train.global_ import train_global

with job(snakemake.log[0], snakemake.threads):
    train_global(
        **paths(snakemake.input),
        **paths(snakemake.output),
        organs=snakemake.params.organs,
        compute=Compute.of(snakemake.resources, snakemake.threads),
        seed=int(snakemake.wildcards.seed),
        device=pick_device(snakemake.resources.gpu, devices=snakemake.resources.devices),
        resume=Path(snakemake.output.checkpoint).with_name("resume"),
        curves=Path(snakemake.log[0]).with_suffix(""),
        config=GlobalConfig(**snakemake.params.config),
    )
