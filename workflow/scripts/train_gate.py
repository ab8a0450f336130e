"""Rule train_gate."""

from pathlib import Path

from nuclass_pipeline.config.models import GateConfig
from nuclass_pipeline.runtime import job, paths, pick_device
from nuclass_pipeline.train.gate import train_gate

with job(snakemake.log[0], snakemake.threads):
    train_gate(
        **paths(snakemake.input),
        **paths(snakemake.output),
        seed=int(snakemake.wildcards.seed),
        device=pick_device(snakemake.resources.gpu, "compute.gate_gpu"),
        curves=Path(snakemake.log[0]).with_suffix(""),
        config=GateConfig(**snakemake.params.config),
    )
