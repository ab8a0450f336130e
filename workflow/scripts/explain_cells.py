"""Rule explain_cells."""

from nuclass_pipeline.evaluate.attribution import explain_cells
from nuclass_pipeline.runtime import job, paths, pick_device

with job(snakemake.log[0], snakemake.threads):
    explain_cells(
        **paths(snakemake.input),
        **paths(snakemake.output),
        organ=snakemake.params.organ,
        slide=snakemake.wildcards.slide,
        cells_per_slide=snakemake.params.cells,
        seed=int(snakemake.wildcards.seed),
        device=pick_device(snakemake.resources.gpu),
    )
