"""Rule compare_paths."""

from nuclass_pipeline.config.evaluation import EvaluationConfig
from nuclass_pipeline.evaluate.comparison import compare_paths
from nuclass_pipeline.runtime import job, paths

with job(snakemake.log[0], snakemake.threads):
    compare_paths(
        **paths(snakemake.input),
        **paths(snakemake.output),
        **snakemake.params.names,
        variant=snakemake.wildcards.variant,
        config=EvaluationConfig(**snakemake.params.config),
    )
