"""Images with a labelled point for each cell: one mosaic for a slide, its cells and labels, and a few images to show.

INPUTS   images.csv, points.csv and the pictures of a slide of kind images; config/labels.tsv
OUTPUTS  slides/{slide}/{image.h5, tissue.png, registration.json, cells.parquet, labels.parquet}
         metrics/point_images.parquet
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
        mem_mb=run.mem_mb("import_points"),
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


rule summarize_point_images:
    input:
        images=expand(files.image, slide=run.heldout_point_slides),
        cells=expand(files.cells, slide=run.heldout_point_slides),
        labels=expand(files.labels, slide=run.heldout_point_slides),
    output:
        point_images=files.point_image_metrics,
    log:
        "<logs>/summarize_point_images.log",
    benchmark:
        "<benchmarks>/summarize_point_images.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        slides=run.heldout_point_slides,
        code=code_version("summary.point_images"),
    message:
        "Choosing images with points to show."
    script:
        "../scripts/summarize_point_images.py"
