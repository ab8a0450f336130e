"""Rule train_gate."""

from nuclass_pipeline.config.models import GateConfig
from nuclass_pipeline.runtime import job, paths
from nuclass_pipeline.train.gate import train_gate

with job(snakemake.log[0], snakemake.threads):
    train_gate(
        **paths(snakemake.input),
        **paths(snakemake.output),
        seed=int(snakemake.wildcards.seed),
        config=GateConfig(**snakemake.params.config),
    )
