"""Targets: all slides, the comparison of annotators, classification, all figures, all tables, and their numbers in the paper.

INPUTS   slides/{slide}/{proposals.tsv, ablation.parquet, domains.parquet, programs.parquet, label_report.pdf, label_report.png}
         slides/{slide}/{labels.csv, labels.h5ad}
         predictions/base/gate/seed-{seed}/{slide}.parquet, metrics/labels.parquet
         figures/{figure}.{pdf,png}, tables/{table}.{tsv,tex}
OUTPUTS  none
"""

from nuclass_pipeline.records import begin
from snakemake_logger_plugin_nuclass import watch

watch(workflow, run)

if workflow.is_main_process:
    for note in run.notes:
        logger.warning(note)


onstart:
    with one_line():
        jobs = workflow.dag.needrun_jobs()
        made = [file for job in jobs for file in job.output]
        begin(**run.folders, outputs=made, run_file=run.checked)


rule slides:
    input:
        expand(files.proposals, slide=run.slides_with_xenium),
        expand(files.label_report, slide=run.slides_with_xenium),
        expand(files.label_report_png, slide=run.slides_with_xenium),
        expand(files.domains, slide=run.slides_with_xenium),
        expand(files.programs, slide=run.slides_with_programs),
        files.label_metrics if run.slides_with_truth else [],


rule labels:
    input:
        rules.slides.input,
        expand([files.labels_csv, files.labels_h5ad], slide=run.slides_with_xenium),


rule ablation:
    input:
        expand(files.ablation, slide=run.slides_with_xenium),


rule classification:
    input:
        expand(
            of_base(files.predictions),
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
