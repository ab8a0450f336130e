"""Rule make_slide."""

from nuclass_pipeline.config.synthetic import SyntheticConfig
from nuclass_pipeline.phantom import make_slide
from nuclass_pipeline.runtime import job, paths

with job(snakemake.log[0], snakemake.threads):
    make_slide(
        **paths(snakemake.input),
        **paths(snakemake.output),
        organ=snakemake.params.organ,
        seed=snakemake.params.seed,
        config=SyntheticConfig(**snakemake.params.config),
    )
