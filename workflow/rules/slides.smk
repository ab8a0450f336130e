"""Slides: make or fetch them, read their cells, register their H&E.

INPUTS   config/slides.tsv: Xenium bundles with H&E and alignment
OUTPUTS  slides/{slide}/{cells.parquet, counts.h5ad, registration.json}
"""

SEGMENTATION_GPU = (
    cfg.config.compute.gpu if cfg.config.segmentation.method == "cellpose" else 0
)


rule make_slide:
    output:
        manifest="resources/synthetic/{slide}/outs/experiment.xenium",
        image="resources/synthetic/{slide}/{slide}_he_image.ome.tif",
        alignment="resources/synthetic/{slide}/{slide}_he_imagealignment.csv",
        truth="resources/synthetic/{slide}/truth.parquet",
    log:
        "<logs>/make_slide/{slide}.log",
    benchmark:
        "<benchmarks>/make_slide/{slide}.tsv"
    wildcard_constraints:
        slide=cfg.pattern("synthetic"),
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        organ=lambda w: cfg.slides[w.slide].organ,
        seed=lambda w: cfg.config.synthetic.seeds[w.slide],
        config={k: v for k, v in cfg.section("synthetic").items() if k != "seeds"},
        code=code_version("phantom"),
    message:
        "Making the synthetic slide {wildcards.slide}."
    script:
        "../scripts/make_slide.py"


rule fetch_slide:
    output:
        manifest="resources/xenium/{slide}/outs/experiment.xenium",
        image="resources/xenium/{slide}/{slide}_he_image.ome.tif",
        alignment="resources/xenium/{slide}/{slide}_he_imagealignment.csv",
    log:
        "<logs>/fetch_slide/{slide}.log",
    benchmark:
        "<benchmarks>/fetch_slide/{slide}.tsv"
    wildcard_constraints:
        slide=cfg.downloads,
    retries: 3
    threads: 1
    resources:
        mem_mb=1000,
        runtime=720,
    params:
        urls=lambda w: cfg.slides[w.slide].model_dump(
            include={"bundle_url", "image_url", "alignment_url"}
        ),
        lock="config/locks/{slide}.tsv",  # read and written, so neither input nor output
    message:
        "Downloading {wildcards.slide}."
    script:
        "../scripts/fetch_slide.py"


rule read_cells:
    input:
        manifest=lambda w: cfg.slides[w.slide].manifest,
    output:
        cells="<results>/slides/{slide}/cells.parquet",
        counts="<results>/slides/{slide}/counts.h5ad",
    log:
        "<logs>/read_cells/{slide}.log",
    benchmark:
        "<benchmarks>/read_cells/{slide}.tsv"
    wildcard_constraints:
        slide=cfg.pattern("xenium", "synthetic"),
    threads: 1
    resources:
        mem_mb=lambda w, attempt: 2000 * attempt,
        runtime=30,
    params:
        code=code_version("data.xenium.read"),
    message:
        "Reading the cells of {wildcards.slide}."
    script:
        "../scripts/read_cells.py"


rule register_image:
    input:
        manifest=lambda w: cfg.slides[w.slide].manifest,
        cells=rules.read_cells.output.cells,
        image=lambda w: cfg.slides[w.slide].image,
        alignment=lambda w: cfg.slides[w.slide].alignment or [],
    output:
        registration="<results>/slides/{slide}/registration.json",
    log:
        "<logs>/register_image/{slide}.log",
    benchmark:
        "<benchmarks>/register_image/{slide}.tsv"
    wildcard_constraints:
        slide=cfg.pattern("xenium", "synthetic"),
    threads: 1
    resources:
        gpu=SEGMENTATION_GPU,
        mem_mb=lambda w, attempt: 4000 * attempt,
        runtime=60,
    params:
        config=cfg.section("registration"),
        segmentation=cfg.section("segmentation"),
        code=code_version("data.registration.stage"),
    message:
        "Registering the H&E of {wildcards.slide}."
    script:
        "../scripts/register_image.py"
