"""Rule label_cells."""

from nuclass_pipeline.config.labeling import LabelingConfig
from nuclass_pipeline.labeling.stage import label_cells
from nuclass_pipeline.runtime import job, paths

with job(snakemake.log[0], snakemake.threads):
    label_cells(
        **{name: file or None for name, file in paths(snakemake.input).items()},
        **paths(snakemake.output),
        organ=snakemake.params.organ,
        classes=snakemake.params.classes,
        label_column=snakemake.params.label_column,
        config=LabelingConfig(**snakemake.params.config),
    )
