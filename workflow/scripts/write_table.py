"""Every rule table_<name>."""

from nuclass_pipeline.runtime import job, paths
from nuclass_pipeline.tables.write import write_table_files

with job(snakemake.log[0], snakemake.threads):
    write_table_files(
        name=snakemake.rule.removeprefix("table_"),
        inputs=paths(snakemake.input),
        outputs=list(paths(snakemake.output).values()),
    )
