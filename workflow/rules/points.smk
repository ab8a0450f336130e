"""Images with a labelled point for each cell: one mosaic for a slide, and its cells and labels.

INPUTS   images.csv, points.csv and the pictures of a slide of kind images; config/labels.tsv
OUTPUTS  slides/{slide}/{image.h5, tissue.png, registration.json, cells.parquet, labels.parquet}
"""


rule import_points:
    input:
        images=lambda w: f"{run.slides[w.slide].bundle}/images.csv",
        points=lambda w: f"{run.slides[w.slide].bundle}/points.csv",
        pictures=lambda w: run.slides[w.slide].pictures,
        label_map=ancient(run.config.labels),
    output:
        image=files.image,
        picture=files.tissue_png,
        registration=files.registration,
        cells=files.cells,
        labels=files.labels,
    log:
        "<logs>/import_points/{slide}.log",
    benchmark:
        "<benchmarks>/import_points/{slide}.tsv"
    wildcard_constraints:
        slide=run.pattern("images"),
    threads: 1
    resources:
        mem_mb=by_attempt(3000),
        runtime=60,
    params:
        own=list(run.config.study.colors),
        config=run.section("image"),
        content=content(run.config.labels),
        code=code_version("data.points.stage"),
    message:
        "Laying out the images of {wildcards.slide}."
    script:
        "../scripts/import_points.py"
