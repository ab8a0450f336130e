"""Figures and tables: one rule each, from the lists in figures/__init__.py and tables/__init__.py; targets by their numbers in the paper.

INPUTS   metrics/{*.parquet, base/*.parquet}, metrics/base/attribution/seed-{seed}/{slide}.parquet, predictions/base/{model}/seed-{seed}/{slide}.parquet
         slides/{slide}/{cells,clusters,markers,labels}.parquet
OUTPUTS  figures/{figure}.{pdf,png}, tables/{table}.{tsv,tex}, slides/{slide}/label_report.{pdf,png}
"""

for name, figure in FIGURES.items():

    rule:
        name:
            f"figure_{name}"
        input:
            **figure.inputs,
        output:
            pdf=report(
                files.figure.format(figure=name),
                category="Figures",
                caption=f"../report/{name}.rst",
            ),
            png=files.figure_png.format(figure=name),
        log:
            f"<logs>/figure_{name}.log",
        benchmark:
            f"<benchmarks>/figure_{name}.tsv"
        threads: 1
        resources:
            mem_mb=2000,
            runtime=15,
        params:
            options=figure.options,
            code=code_version(f"figures.{name}"),
        message:
            f"Drawing the figure {name}."
        script:
            "../scripts/draw_figure.py"


rule figure_labels:
    input:
        cells=files.cells,
        clusters=files.clusters,
        markers=files.markers,
        labels=files.labels,
    output:
        pdf=report(
            files.label_report,
            category="Labels",
            caption="../report/labels.rst",
            labels={"slide": "{slide}"},
        ),
        png=files.label_report_png,
    log:
        "<logs>/figure_labels/{slide}.log",
    benchmark:
        "<benchmarks>/figure_labels/{slide}.tsv"
    wildcard_constraints:
        slide=run.pattern("xenium", "synthetic"),
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        options=lambda w: {"slide": w.slide},
        code=code_version("figures.labels"),
    message:
        "Drawing the labels of {wildcards.slide}."
    script:
        "../scripts/draw_figure.py"


for name, inputs in TABLES.items():

    rule:
        name:
            f"table_{name}"
        input:
            **inputs,
        output:
            tsv=files.table.format(table=name),
            tex=files.table_tex.format(table=name),
        log:
            f"<logs>/table_{name}.log",
        benchmark:
            f"<benchmarks>/table_{name}.tsv"
        threads: 1
        resources:
            mem_mb=2000,
            runtime=15,
        params:
            code=code_version(f"tables.{name}"),
        message:
            f"Writing the table {name}."
        script:
            "../scripts/write_table.py"
