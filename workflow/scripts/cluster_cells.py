"""Rule cluster_cells."""

from nuclass_pipeline.config.expression import ClusteringConfig
from nuclass_pipeline.expression.clustering import cluster_cells
from nuclass_pipeline.runtime import job, paths

with job(snakemake.log[0], snakemake.threads):
    cluster_cells(
        **{name: file or None for name, file in paths(snakemake.input).items()},
        **paths(snakemake.output),
        config=ClusteringConfig(**snakemake.params.config),
        column=snakemake.params.column,
        threads=snakemake.threads,
    )
