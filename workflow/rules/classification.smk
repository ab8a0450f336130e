"""Classification: slides that are not scored, and the map of what their cells are.

INPUTS   predictions/gate/seed-{seed}/{slide}.parquet
OUTPUTS  figures/cell_map.pdf, figures/cell_map.png
"""

PREDICTED = cfg.slides_of(role="predict")


use rule draw_figure as figure_cell_map with:
    input:
        gate=expand(PREDICTIONS, model="gate", seed=SEEDS[0], slide=PREDICTED),
    output:
        pdf=report(
            "<results>/figures/cell_map.pdf",
            category="Figures",
            caption="../report/cell_map.rst",
        ),
        png="<results>/figures/cell_map.png",
    log:
        "<logs>/figure_cell_map.log",
    params:
        options={"slides": PREDICTED},
        code=code_version("figures.cell_map"),


rule classification:
    input:
        expand(PREDICTIONS, model="gate", seed=SEEDS, slide=PREDICTED),
