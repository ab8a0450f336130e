"""Rule fit_temperatures."""

from nuclass_pipeline.evaluate.temperatures import fit_temperatures
from nuclass_pipeline.runtime import job, paths

with job(snakemake.log[0], snakemake.threads):
    fit_temperatures(
        **paths(snakemake.input),
        **paths(snakemake.output),
        **snakemake.params.names,
        variant=snakemake.wildcards.variant,
    )
