"""Rule extract_windows."""

from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.image.further_windows import extract_windows
from nuclass_pipeline.runtime import job, paths

with job(snakemake.log[0], snakemake.threads):
    extract_windows(
        **paths(snakemake.input),
        **paths(snakemake.output),
        side_px=int(snakemake.wildcards.px),
        config=ImageConfig(**snakemake.params.config),
    )
