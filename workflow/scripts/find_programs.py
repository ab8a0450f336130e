"""Rule find_programs."""

from nuclass_pipeline.config.expression import ProgramsConfig
from nuclass_pipeline.expression.programs.stage import find_programs
from nuclass_pipeline.runtime import job, paths

with job(snakemake.log[0], snakemake.threads):
    find_programs(
        **{name: file or None for name, file in paths(snakemake.input).items()},
        **paths(snakemake.output),
        config=ProgramsConfig(**snakemake.params.config),
    )
