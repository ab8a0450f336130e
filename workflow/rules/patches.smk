"""Patches: windows around cells, or patches made elsewhere; the split of the cells that have an image.

INPUTS   slides/{slide}/{image.h5, registration.json, cells.parquet, labels.parquet}, or annotations.json with two patch files, config/labels.tsv
OUTPUTS  slides/{slide}/{patches_224x224.h5, patches_1024x1024.h5, annotations.json, cells.parquet, labels.parquet, split.parquet}
         variants/{variant}/slides/{slide}/split.parquet
"""


rule extract_patches:
    input:
        image=files.image,
        registration=files.registration,
        cells=files.cells,
        labels=files.labels,
    output:
        local=files.local_patches,
        context=files.context_patches,
        annotations=files.annotations,
    log:
        "<logs>/extract_patches/{slide}.log",
    benchmark:
        "<benchmarks>/extract_patches/{slide}.tsv"
    wildcard_constraints:
        slide=run.pattern("xenium", "synthetic", "image", "images"),
    threads: 1
    resources:
        mem_mb=run.mem_mb("extract_patches"),
        runtime=60,
    params:
        organ=lambda w: run.slides[w.slide].organ,
        config=run.section("image"),
        code=code_version("data.image.patches"),
    message:
        "Cutting the patches of {wildcards.slide}."
    script:
        "../scripts/extract_patches.py"


rule import_trio:
    input:
        annotations=lambda w: run.slides[w.slide].trio_files(run.config.image)[
            "annotations"
        ],
        local_source=lambda w: run.slides[w.slide].trio_files(run.config.image)["local"],
        context_source=lambda w: run.slides[w.slide].trio_files(run.config.image)[
            "context"
        ],
        label_map=ancient(run.config.labels),
    output:
        cells=files.cells,
        labels=files.labels,
        local=files.local_patches,
        context=files.context_patches,
    log:
        "<logs>/import_trio/{slide}.log",
    benchmark:
        "<benchmarks>/import_trio/{slide}.tsv"
    wildcard_constraints:
        slide=run.pattern("trio"),
    threads: 1
    resources:
        mem_mb=run.mem_mb("import_trio"),
        runtime=60,
    params:
        organ=lambda w: run.slides[w.slide].organ,
        own=list(run.config.study.colors),
        config=run.section("image"),
        content=content(run.config.labels),
        code=code_version("data.trio.stage"),
    message:
        "Importing the patches of {wildcards.slide}."
    script:
        "../scripts/import_trio.py"


rule split_cells:
    input:
        cells=files.cells,
        labels=files.labels,
        patches=files.local_patches,
        registration=lambda w: run.registration_of(w.slide),
    output:
        split=files.split,
    log:
        "<logs>/split_cells/{slide}.log",
    benchmark:
        "<benchmarks>/split_cells/{slide}.tsv"
    threads: 1
    resources:
        mem_mb=run.mem_mb("split_cells"),
        runtime=10,
    params:
        role=lambda w: run.role(w.slide),
        config=run.section("split"),
        image=run.section("image"),
        code=code_version("data.splits"),
    message:
        "Splitting the cells of {wildcards.slide}."
    script:
        "../scripts/split_cells.py"


use rule split_cells as split_variant with:
    input:
        cells=files.cells,
        labels=lambda w: run.labels_of(w.slide, w.variant),
        patches=files.local_patches,
        registration=lambda w: run.registration_of(w.slide),
    output:
        split=files.variant_split,
    log:
        "<logs>/split_variant/{slide}.{variant}.log",
    benchmark:
        "<benchmarks>/split_variant/{slide}.{variant}.tsv"
    params:
        config=lambda w: run.variants[w.variant].section("split"),
        image=lambda w: run.variants[w.variant].section("image"),
    message:
        "Splitting the cells of {wildcards.slide}, {wildcards.variant}."
