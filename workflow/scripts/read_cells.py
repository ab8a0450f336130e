"""Rule read_cells."""

from pathlib import Path

from nuclass_pipeline.data.xenium.read import read_cells
from nuclass_pipeline.runtime import job, paths

with job(snakemake.log[0], snakemake.threads):
    read_cells(
        manifest=Path(snakemake.input.manifest),
        **paths(snakemake.output),
    )
