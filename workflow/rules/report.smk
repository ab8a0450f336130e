"""The report: everything on one page. What a study lacks, such as scores of slides that are only labelled, has no section.

INPUTS   figures/{figure}.png, tables/{table}.tsv, slides/{slide}/{label_report.png, tissue.png}, models/base/{model}/seed-{seed}/history.parquet
         metrics/{base/heldout,cohort,quality,runtime,warnings}.parquet, manifest.json, config.yaml
OUTPUTS  report.html
"""

from os.path import relpath

captions = expand(
    "{folder}/{name}.rst",
    folder=relpath(f"{workflow.basedir}/workflow/report"),
    name=["workflow", *FIGURES, "labels", *TABLES],
)


rule build_report:
    input:
        figures=expand(files.figure_png, figure=FIGURES),
        tables=expand(files.table, table=TABLES),
        label_reports=expand(files.label_report_png, slide=run.slides_with_xenium),
        tissue=expand(files.tissue_png, slide=run.slides_with_image),
        histories=(
            expand(
                of_base(files.history),
                model=["local", "global", "gate"],
                seed=run.seeds,
            )
            if run.training_slides
            else []
        ),
        captions=ancient(captions),
        heldout=of_base(files.heldout_metrics) if run.heldout_slides else [],
        cohort=files.cohort_metrics if run.heldout_slides else [],
        quality=files.quality_metrics,
        runtime=files.runtime_metrics,
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
        # Where the workflow runs in its own folder; elsewhere, a link would show where that is.
        docs="../../docs" if relpath(workflow.basedir) == "." else "",
        content=content(captions),
        code=code_version("report.build"),
    message:
        "Building the report."
    script:
        "../scripts/build_report.py"
