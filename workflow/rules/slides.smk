"""Slides: read their cells, register their H&E.

INPUTS   config/slides.tsv: Xenium bundles with H&E and alignment
OUTPUTS  slides/{slide}/{cells.parquet, counts.h5ad, registration.json}
"""


rule read_cells:
    input:
        manifest=lambda w: run.slides[w.slide].manifest,
        bundle=lambda w: run.slides[w.slide].bundle_files,
    output:
        cells=files.cells,
        counts=files.counts,
    log:
        "<logs>/read_cells/{slide}.log",
    benchmark:
        "<benchmarks>/read_cells/{slide}.tsv"
    wildcard_constraints:
        slide=run.pattern("xenium", "synthetic"),
    threads: 1
    resources:
        mem_mb=run.mem_mb("read_cells"),
        runtime=30,
    params:
        code=code_version("data.xenium.read"),
    message:
        "Reading the cells of {wildcards.slide}."
    script:
        "../scripts/read_cells.py"


rule register_image:
    input:
        lambda w: run.segmenter_weights,
        manifest=lambda w: run.slides[w.slide].manifest,
        cells=files.cells,
        image=lambda w: run.slides[w.slide].image,
        alignment=lambda w: run.slides[w.slide].alignment or [],
    output:
        registration=files.registration,
    log:
        "<logs>/register_image/{slide}.log",
    benchmark:
        "<benchmarks>/register_image/{slide}.tsv"
    wildcard_constraints:
        slide="|".join(s for s in run.slides_with_xenium if run.slides[s].image)
        or "(?!)",
    threads: 1
    resources:
        gpu=run.segmentation_gpu,
        mem_mb=run.mem_mb("register_image"),
        runtime=60,
    params:
        config=lambda w: run.registration(w.slide),
        segmentation=run.section("segmentation"),
        code=code_version("data.registration.stage", run.segmenter_module),
    message:
        "Registering the H&E of {wildcards.slide}."
    script:
        "../scripts/register_image.py"
