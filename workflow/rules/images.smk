"""Images: the H&E resampled once; of an H&E without Xenium, its pixel size, and its nuclei in place of cells.

INPUTS   config/slides.tsv: an H&E; slides/{slide}/{registration.json, cells.parquet}
OUTPUTS  slides/{slide}/{image.h5, tissue.png, registration.json, cells.parquet, labels.parquet, nuclei.parquet, nuclei.png}
         metrics/overviews.parquet
"""


rule measure_image:
    input:
        image=lambda w: run.slides[w.slide].image,
    output:
        registration=files.registration,
    log:
        "<logs>/measure_image/{slide}.log",
    benchmark:
        "<benchmarks>/measure_image/{slide}.tsv"
    wildcard_constraints:
        slide=run.pattern("image"),
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        mpp=lambda w: run.slides[w.slide].mpp,
        code=code_version("data.segmentation.stage"),
    message:
        "Measuring the H&E of {wildcards.slide}."
    script:
        "../scripts/measure_image.py"


rule build_image:
    input:
        he=lambda w: run.slides[w.slide].image,
        registration=files.registration,
    output:
        image=files.image,
        picture=files.tissue_png,
    log:
        "<logs>/build_image/{slide}.log",
    benchmark:
        "<benchmarks>/build_image/{slide}.tsv"
    wildcard_constraints:
        slide=run.pattern("xenium", "synthetic", "image"),
    threads: 4
    resources:
        mem_mb=run.mem_mb("build_image"),
        runtime=120,
    params:
        config=run.section("image"),
        code=code_version("data.image.pyramid"),
    message:
        "Resampling the H&E of {wildcards.slide} to {params.config[mpp]} µm/px, and finding its tissue."
    script:
        "../scripts/build_image.py"


rule segment_nuclei:
    input:
        lambda w: run.segmenter_weights,
        image=files.image,
    output:
        cells=files.cells,
        labels=files.labels,
        nuclei=files.nuclei,
        picture=files.nuclei_png,
    log:
        "<logs>/segment_nuclei/{slide}.log",
    benchmark:
        "<benchmarks>/segment_nuclei/{slide}.tsv"
    wildcard_constraints:
        slide=run.pattern("image"),
    threads: 2
    resources:
        gpu=run.segmentation_gpu,
        mem_mb=run.mem_mb("segment_nuclei"),
        runtime=720,
    params:
        config=run.section("segmentation"),
        code=code_version("data.segmentation.stage", run.segmenter_module),
    message:
        "Finding the nuclei of {wildcards.slide}."
    script:
        "../scripts/segment_nuclei.py"


rule summarize_overviews:
    input:
        images=expand(files.image, slide=run.slides_with_image),
        registrations=expand(files.registration, slide=run.slides_with_image),
        cells=expand(files.cells, slide=run.slides_with_image),
    output:
        overviews=files.overview_metrics,
    log:
        "<logs>/summarize_overviews.log",
    benchmark:
        "<benchmarks>/summarize_overviews.tsv"
    threads: 1
    resources:
        mem_mb=run.mem_mb("summarize_overviews"),
        runtime=30,
    params:
        slides=run.slides_with_image,
        code=code_version("summary.overviews"),
    message:
        "Collecting overviews of all slides."
    script:
        "../scripts/summarize_overviews.py"
