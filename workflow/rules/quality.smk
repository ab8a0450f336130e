"""Quality and cost: what each slide holds and how well its parts fit; time and memory of every rule.

INPUTS   slides/{slide}/{cells.parquet, labels.parquet, split.parquet, counts.h5ad, registration.json, image.h5}, config/markers.tsv
         slides/{slide}/{proposals.tsv, domains.parquet, programs.parquet, label_report.pdf, label_report.png, labels.csv, labels.h5ad}
         predictions/base/gate/seed-{seed}/{slide}.parquet, figures/{figure}.{pdf,png}, tables/{table}.{tsv,tex}
         metrics/{labels,warnings}.parquet, manifest.json
OUTPUTS  metrics/{quality,runtime}.parquet
"""


rule summarize_quality:
    input:
        cells=expand(files.cells, slide=run.slides),
        labels=expand(files.labels, slide=run.slides),
        splits=expand(files.split, slide=run.classified_slides),
        counts=expand(files.counts, slide=run.slides_with_xenium),
        registrations=expand(files.registration, slide=run.slides_with_image),
        images=expand(files.image, slide=run.slides_with_image),
        knowledge=ancient(run.config.labeling.markers),
    output:
        quality=files.quality_metrics,
    log:
        "<logs>/summarize_quality.log",
    benchmark:
        "<benchmarks>/summarize_quality.tsv"
    threads: 1
    resources:
        mem_mb=run.mem_mb("summarize_quality"),
        runtime=30,
    params:
        slides={
            name: {"organ": slide.organ, "role": run.role(name), "kind": slide.kind}
            for name, slide in run.slides.items()
        },
        content=content(run.config.labeling.markers),
        code=code_version("summary.quality"),
    message:
        "Collecting the quality of all slides."
    script:
        "../scripts/summarize_quality.py"


rule summarize_runtime:
    input:
        # All but the report. Not read, but made before, because the table sums the times of the jobs that have ended.
        labels=lambda w: rules.labels.input,
        classification=lambda w: rules.classification.input,
        figures=lambda w: rules.figures.input,
        tables=lambda w: rules.tables.input,
        quality=files.quality_metrics,
        warnings=files.warnings,
        manifest=files.manifest,
    output:
        runtime=files.runtime_metrics,
    log:
        "<logs>/summarize_runtime.log",
    benchmark:
        "<benchmarks>/summarize_runtime.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        benchmarks=run.folders["benchmarks"],
        code=code_version("summary.runtime"),
    message:
        "Summing time and memory of all jobs."
    script:
        "../scripts/summarize_runtime.py"
