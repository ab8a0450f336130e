"""Rule fetch_slide."""

from pathlib import Path

from nuclass_pipeline.config.slides import read_slides
from nuclass_pipeline.data.xenium.download import fetch_slide
from nuclass_pipeline.runtime import job, paths

with job(snakemake.log[0], snakemake.threads):
    # From the sheet, because Snakemake keeps params, and an address may hold a key.
    slide = read_slides(Path(snakemake.resources.sheet))[snakemake.wildcards.slide]
    fetch_slide(
        **paths(snakemake.output),
        **slide.urls,
        lock=Path(snakemake.params.lock),
    )
