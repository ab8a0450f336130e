"""Targets: all slides, the comparison of annotators, classification, all figures, all tables, their numbers in the paper, and the report.

INPUTS   slides/{slide}/{proposals.tsv, ablation.parquet, domains.parquet, programs.parquet, label_report.pdf, label_report.png}
         predictions/gate/seed-{seed}/{slide}.parquet, metrics/{heldout,labels,warnings}.parquet, config.yaml, manifest.json
         figures/{figure}.{pdf,png}, tables/{table}.{tsv,tex}
OUTPUTS  report.html
"""

from os.path import relpath

from nuclass_pipeline.records import begin
from snakemake_logger_plugin_nuclass import name_targets

name_targets(["all", *(rule.name for rule in workflow.rules)])


onstart:
    with one_line():
        begin(**run.folders)


rule slides:
    input:
        expand(files.proposals, slide=run.slides_with_xenium),
        expand(files.label_report, slide=run.slides_with_xenium),
        expand(files.label_report_png, slide=run.slides_with_xenium),
        expand(files.domains, slide=run.slides_with_xenium),
        expand(files.programs, slide=run.slides_with_programs),
        files.label_metrics if run.slides_with_truth else [],


rule ablation:
    input:
        expand(files.ablation, slide=run.slides_with_xenium),


rule classification:
    input:
        expand(
            files.predictions,
            model="gate",
            seed=run.seeds,
            slide=run.unscored_slides,
        ),


rule figures:
    input:
        expand([files.figure, files.figure_png], figure=FIGURES),


rule tables:
    input:
        expand([files.table, files.table_tex], table=TABLES),


for number, name in run.config.figures.items():

    rule:
        name:
            f"fig{number}"
        input:
            files.figure.format(figure=name),


for number, name in run.config.tables.items():

    rule:
        name:
            f"tab{number}"
        input:
            files.table.format(table=name),


rule build_report:
    input:
        figures=expand(files.figure_png, figure=FIGURES),
        tables=expand(files.table, table=TABLES),
        label_reports=expand(files.label_report_png, slide=run.slides_with_xenium),
        captions=ancient(
            expand(
                "{folder}/{name}.rst",
                folder=relpath(f"{workflow.basedir}/workflow/report"),
                name=["workflow", *FIGURES, "labels", *TABLES],
            )
        ),
        heldout=files.heldout_metrics,
        warnings=files.warnings,
        manifest=files.manifest,
        config=files.run_file,
    output:
        report=files.report,
    log:
        "<logs>/build_report.log",
    benchmark:
        "<benchmarks>/build_report.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        heading=f"NuClass, run {run.config.run}",
        content=lambda w, input: content(input.captions),
        code=code_version("report.build"),
    message:
        "Building the report."
    script:
        "../scripts/build_report.py"
