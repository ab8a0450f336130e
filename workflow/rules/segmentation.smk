"""H&E without Xenium: its pixel size, and its nuclei in place of cells.

INPUTS   config/slides.tsv: slides of kind image; slides/{slide}/image.h5
OUTPUTS  slides/{slide}/{registration.json, cells.parquet, labels.parquet, nuclei.parquet, nuclei.png}
"""


rule measure_image:
    input:
        image=lambda w: cfg.slides[w.slide].image,
    output:
        registration="<results>/slides/{slide}/registration.json",
    log:
        "<logs>/measure_image/{slide}.log",
    benchmark:
        "<benchmarks>/measure_image/{slide}.tsv"
    wildcard_constraints:
        slide=cfg.pattern("image"),
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        mpp=lambda w: cfg.slides[w.slide].mpp,
        code=code_version("data.segmentation.stage"),
    message:
        "Measuring the H&E of {wildcards.slide}."
    script:
        "../scripts/measure_image.py"


rule segment_nuclei:
    input:
        image="<results>/slides/{slide}/image.h5",
    output:
        cells="<results>/slides/{slide}/cells.parquet",
        labels="<results>/slides/{slide}/labels.parquet",
        nuclei="<results>/slides/{slide}/nuclei.parquet",
        picture="<results>/slides/{slide}/nuclei.png",
    log:
        "<logs>/segment_nuclei/{slide}.log",
    benchmark:
        "<benchmarks>/segment_nuclei/{slide}.tsv"
    wildcard_constraints:
        slide=cfg.pattern("image"),
    threads: 2
    resources:
        gpu=SEGMENTATION_GPU,
        mem_mb=lambda w, attempt: 8000 * attempt,
        runtime=720,
    params:
        config=cfg.section("segmentation"),
        code=code_version("data.segmentation.stage"),
    message:
        "Finding the nuclei of {wildcards.slide}."
    script:
        "../scripts/segment_nuclei.py"
