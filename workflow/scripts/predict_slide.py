"""Rule predict_slide."""

from nuclass_pipeline.evaluate.predict import predict_slide
from nuclass_pipeline.runtime import job, paths, pick_device

with job(snakemake.log[0], snakemake.threads):
    predict_slide(
        **{name: file or None for name, file in paths(snakemake.input).items()},
        **paths(snakemake.output),
        seed=int(snakemake.wildcards.seed),
        device=pick_device(snakemake.resources.gpu, "compute.gate_gpu"),
    )
