"""Rule unpack_bundle."""

from nuclass_pipeline.data.xenium.archives import unpack_bundle
from nuclass_pipeline.runtime import job, paths

with job(snakemake.log[0], snakemake.threads):
    unpack_bundle(**paths(snakemake.input), **paths(snakemake.output))
