"""Rule score_labels."""

from nuclass_pipeline.labeling.accuracy import score_labels
from nuclass_pipeline.runtime import job, paths

with job(snakemake.log[0], snakemake.threads):
    score_labels(
        **paths(snakemake.input),
        **paths(snakemake.output),
        **snakemake.params.names,
    )
