"""Label report: one page per slide that shows its labels, how sure they are, and why cells have none.

INPUTS   slides/{slide}/{cells,clusters,markers,labels}.parquet
OUTPUTS  slides/{slide}/label_report.{pdf,png}
"""


use rule draw_figure as figure_labels with:
    input:
        cells="<results>/slides/{slide}/cells.parquet",
        clusters=rules.cluster_cells.output.clusters,
        markers=rules.rank_markers.output.markers,
        labels=rules.label_cells.output.labels,
    output:
        pdf=report(
            "<results>/slides/{slide}/label_report.pdf",
            category="Labels",
            caption="../report/labels.rst",
            labels={"slide": "{slide}"},
        ),
        png="<results>/slides/{slide}/label_report.png",
    log:
        "<logs>/figure_labels/{slide}.log",
    wildcard_constraints:
        slide=cfg.pattern("xenium", "synthetic"),
    params:
        options=lambda w: {"slide": w.slide},
        code=code_version("figures.labels"),
    message:
        "Drawing the labels of {wildcards.slide}."
