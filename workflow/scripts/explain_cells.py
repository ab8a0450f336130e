"""Rule explain_cells."""

from nuclass_pipeline.config.evaluation import AttributionConfig
from nuclass_pipeline.evaluate.attribution import explain_cells
from nuclass_pipeline.runtime import job, paths, pick_device

with job(snakemake.log[0], snakemake.threads):
    explain_cells(
        **paths(snakemake.input),
        **paths(snakemake.output),
        organ=snakemake.params.organ,
        slide=snakemake.wildcards.slide,
        config=AttributionConfig(**snakemake.params.config),
        device=pick_device(snakemake.resources.gpu),
    )
