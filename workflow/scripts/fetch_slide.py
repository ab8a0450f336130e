"""Rule fetch_slide."""

from pathlib import Path

from nuclass_pipeline.data.xenium.download import fetch_slide
from nuclass_pipeline.runtime import job, paths

with job(snakemake.log[0], snakemake.threads):
    fetch_slide(
        **paths(snakemake.output),
        **snakemake.params.urls,
        lock=Path(snakemake.params.lock),
    )
