"""Exports: results for other programs.

INPUTS   slides/{slide}/{counts.h5ad, cells.parquet, clusters.parquet, domains.parquet, labels.parquet}
OUTPUTS  slides/{slide}/{labels.csv, labels.h5ad}
"""


rule export_labels:
    input:
        counts=files.counts,
        cells=files.cells,
        clusters=files.clusters,
        domains=files.domains,
        labels=files.labels,
    output:
        labels_csv=files.labels_csv,
        labels_h5ad=files.labels_h5ad,
    log:
        "<logs>/export_labels/{slide}.log",
    benchmark:
        "<benchmarks>/export_labels/{slide}.tsv"
    wildcard_constraints:
        slide=run.pattern("xenium", "synthetic"),
    threads: 1
    resources:
        mem_mb=run.mem_mb("export_labels"),
        runtime=30,
    params:
        names=lambda w: {
            "run": run.config.slides_run,
            "slide": w.slide,
            "organ": run.slides[w.slide].organ,
        },
        code=code_version("export.labels"),
    message:
        "Exporting the labels of {wildcards.slide}."
    script:
        "../scripts/export_labels.py"
