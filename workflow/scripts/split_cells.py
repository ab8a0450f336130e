"""Rule split_cells."""

from nuclass_pipeline.config.evaluation import SplitConfig
from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.splits import split_cells
from nuclass_pipeline.runtime import job, paths

with job(snakemake.log[0], snakemake.threads):
    split_cells(
        **{name: file or None for name, file in paths(snakemake.input).items()},
        **paths(snakemake.output),
        role=snakemake.params.role,
        config=SplitConfig(**snakemake.params.config),
        image=ImageConfig(**snakemake.params.image),
    )
