"""Rule segment_nuclei."""

from nuclass_pipeline.config.image import SegmentationConfig
from nuclass_pipeline.data.segmentation.stage import segment_nuclei
from nuclass_pipeline.runtime import job, paths, pick_device

with job(snakemake.log[0], snakemake.threads):
    segment_nuclei(
        **paths(snakemake.input),
        **paths(snakemake.output),
        config=SegmentationConfig(**snakemake.params.config),
        gpu=pick_device(snakemake.resources.gpu) == "cuda",
    )
