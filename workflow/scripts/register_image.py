"""Rule register_image."""

from nuclass_pipeline.config.image import RegistrationConfig, SegmentationConfig
from nuclass_pipeline.data.registration.stage import register_image
from nuclass_pipeline.runtime import job, paths, pick_device

with job(snakemake.log[0], snakemake.threads):
    register_image(
        slide=snakemake.wildcards.slide,
        **paths(snakemake.input),
        **paths(snakemake.output),
        config=RegistrationConfig(**snakemake.params.config),
        segmentation=SegmentationConfig(**snakemake.params.segmentation),
        gpu=pick_device(snakemake.resources.gpu) == "cuda",
    )
