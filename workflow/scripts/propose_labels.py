"""Rule propose_labels."""

from nuclass_pipeline.config.labeling import ProposalsConfig
from nuclass_pipeline.proposals.propose import propose_labels
from nuclass_pipeline.runtime import job, paths

with job(snakemake.log[0], snakemake.threads):
    propose_labels(
        **{name: file or None for name, file in paths(snakemake.input).items()},
        **paths(snakemake.output),
        organ=snakemake.params.organ,
        config=ProposalsConfig(**snakemake.params.config),
        threads=snakemake.threads,
    )
