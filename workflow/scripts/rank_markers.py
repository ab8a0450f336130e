"""Rule rank_markers."""

from nuclass_pipeline.config.expression import ClusteringConfig
from nuclass_pipeline.expression.markers import rank_markers
from nuclass_pipeline.runtime import job, paths

with job(snakemake.log[0], snakemake.threads):
    rank_markers(
        **paths(snakemake.input),
        **paths(snakemake.output),
        config=ClusteringConfig(**snakemake.params.config),
    )
