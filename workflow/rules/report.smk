"""Targets: all slides, the comparison of annotators, all figures, all tables, their numbers in the paper, and the report.

INPUTS   slides/*/ablation.parquet, figures/*.png, tables/*.tsv, slides/*/label_report.png, metrics/heldout.parquet, config.yaml, manifest.json
OUTPUTS  report.html
"""

CAPTIONS = [
    "workflow",
    "composition",
    "registration",
    "confusion",
    "reliability",
    "complementarity",
    "gate_map",
    "cell_map",
    "labels",
    "attribution",
    "cohort",
    "heldout",
]

LABEL_REPORTS = expand(rules.figure_labels.output, slide=MEASURED)


rule slides:
    input:
        expand("<results>/slides/{slide}/proposals.tsv", slide=MEASURED),
        LABEL_REPORTS,
        expand("<results>/slides/{slide}/domains.parquet", slide=MEASURED),
        expand(
            "<results>/slides/{slide}/programs.parquet",
            slide=MEASURED if cfg.config.programs.library else [],
        ),
        rules.score_labels.output if PLANTED else [],


rule ablation:
    input:
        expand("<results>/slides/{slide}/ablation.parquet", slide=MEASURED),


rule figures:
    input:
        rules.figure_composition.output,
        rules.figure_registration.output,
        rules.figure_confusion.output,
        rules.figure_reliability.output,
        rules.figure_complementarity.output,
        rules.figure_gate_map.output,
        rules.figure_attribution.output,
        rules.figure_cell_map.output if PREDICTED else [],


rule tables:
    input:
        rules.table_cohort.output,
        rules.table_heldout.output,


for kind, numbers, folder, suffix in (
    ("fig", cfg.config.figures, "figures", "pdf"),
    ("tab", cfg.config.tables, "tables", "tsv"),
):
    for number, name in numbers.items():

        rule:
            name:
                f"{kind}{number}"
            input:
                f"<results>/{folder}/{name}.{suffix}",


rule build_report:
    input:
        figures=[path for path in rules.figures.input if path.endswith("png")],
        tables=[path for path in rules.tables.input if path.endswith("tsv")],
        label_reports=[path for path in LABEL_REPORTS if path.endswith("png")],
        captions=expand(
            f"{workflow.basedir}/workflow/report/{{name}}.rst", name=CAPTIONS
        ),
        heldout=rules.score_predictions.output.output,
        manifest=rules.record_run.output.manifest,
        config=rules.record_run.output.config_file,
    output:
        output="<results>/report.html",
    log:
        "<logs>/build_report.log",
    benchmark:
        "<benchmarks>/build_report.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        heading=f"NuClass, run {cfg.config.run}",
        code=code_version("report.build"),
    message:
        "Building the report."
    script:
        "../scripts/build_report.py"
