"""Rule record_run."""

from nuclass_pipeline.provenance import record_run
from nuclass_pipeline.runtime import job, paths

with job(snakemake.log[0], snakemake.threads):
    record_run(
        **paths(snakemake.input),
        **paths(snakemake.output),
        config=snakemake.params.config,
        encoders=snakemake.params.encoders,
    )
