"""Every rule figure_<name>."""

from nuclass_pipeline.figures.draw import draw_figure
from nuclass_pipeline.runtime import job, paths

with job(snakemake.log[0], snakemake.threads):
    draw_figure(
        name=snakemake.rule.removeprefix("figure_"),
        inputs=paths(snakemake.input),
        options=snakemake.params.options,
        outputs=list(paths(snakemake.output).values()),
    )
