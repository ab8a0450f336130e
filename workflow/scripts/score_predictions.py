"""Rule score_predictions."""

from nuclass_pipeline.config.evaluation import EvaluationConfig
from nuclass_pipeline.evaluate.heldout import score_predictions
from nuclass_pipeline.runtime import job, paths

with job(snakemake.log[0], snakemake.threads):
    score_predictions(
        **paths(snakemake.input),
        **paths(snakemake.output),
        **snakemake.params.names,
        variant=snakemake.wildcards.variant,
        config=EvaluationConfig(**snakemake.params.config),
    )
