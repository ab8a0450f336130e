"""Rule find_domains."""

from nuclass_pipeline.config.expression import DomainsConfig
from nuclass_pipeline.expression.domains.stage import find_domains
from nuclass_pipeline.runtime import job, paths

with job(snakemake.log[0], snakemake.threads):
    find_domains(
        **paths(snakemake.input),
        **paths(snakemake.output),
        config=DomainsConfig(**snakemake.params.config),
        run=snakemake.params.run,
        slide=snakemake.wildcards.slide,
        organ=snakemake.params.organ,
    )
