"""Rule summarize_variants."""

from nuclass_pipeline.config.evaluation import EvaluationConfig
from nuclass_pipeline.runtime import job, paths
from nuclass_pipeline.summary.variants import summarize_variants

with job(snakemake.log[0], snakemake.threads):
    summarize_variants(
        **paths(snakemake.input),
        **paths(snakemake.output),
        **snakemake.params.names,
        config=EvaluationConfig(**snakemake.params.config),
    )
