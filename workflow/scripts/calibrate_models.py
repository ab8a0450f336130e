"""Rule calibrate_models."""

from nuclass_pipeline.config.evaluation import EvaluationConfig
from nuclass_pipeline.evaluate.calibration import calibrate_models
from nuclass_pipeline.runtime import job, paths

with job(snakemake.log[0], snakemake.threads):
    calibrate_models(
        **paths(snakemake.input),
        **paths(snakemake.output),
        **snakemake.params.names,
        variant=snakemake.wildcards.variant,
        config=EvaluationConfig(**snakemake.params.config),
    )
