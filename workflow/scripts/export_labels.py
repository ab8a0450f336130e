"""Rule export_labels."""

from nuclass_pipeline.export.labels import export_labels
from nuclass_pipeline.runtime import job, paths

with job(snakemake.log[0], snakemake.threads):
    export_labels(
        **paths(snakemake.input),
        **paths(snakemake.output),
        **snakemake.params.names,
    )
