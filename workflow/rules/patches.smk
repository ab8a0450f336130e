"""Images, parts and patches: the H&E resampled once, the guarded split, windows around cells.

INPUTS   slides/{slide}/{cells.parquet, labels.parquet, registration.json}, an H&E; or a trio
OUTPUTS  slides/{slide}/{image.h5, split.parquet, patches_224x224.h5, patches_1024x1024.h5, annotations.json}
"""


rule build_image:
    input:
        image=lambda w: cfg.slides[w.slide].image,
        registration="<results>/slides/{slide}/registration.json",
    output:
        pyramid="<results>/slides/{slide}/image.h5",
    log:
        "<logs>/build_image/{slide}.log",
    benchmark:
        "<benchmarks>/build_image/{slide}.tsv"
    wildcard_constraints:
        slide=cfg.pattern("xenium", "synthetic", "image"),
    threads: 4
    resources:
        mem_mb=lambda w, attempt: 3000 * attempt,
        runtime=120,
    params:
        config=cfg.section("image"),
        code=code_version("data.image.pyramid"),
    message:
        "Resampling the H&E of {wildcards.slide} to {params.config[mpp]} µm/px."
    script:
        "../scripts/build_image.py"


rule split_cells:
    input:
        cells="<results>/slides/{slide}/cells.parquet",
        labels="<results>/slides/{slide}/labels.parquet",
    output:
        split="<results>/slides/{slide}/split.parquet",
    log:
        "<logs>/split_cells/{slide}.log",
    benchmark:
        "<benchmarks>/split_cells/{slide}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        role=lambda w: cfg.role(w.slide),
        config=cfg.section("split"),
        code=code_version("data.splits"),
    message:
        "Splitting the cells of {wildcards.slide}."
    script:
        "../scripts/split_cells.py"


rule extract_patches:
    input:
        image="<results>/slides/{slide}/image.h5",
        registration="<results>/slides/{slide}/registration.json",
        cells="<results>/slides/{slide}/cells.parquet",
        labels="<results>/slides/{slide}/labels.parquet",
    output:
        local="<results>/slides/{slide}/patches_224x224.h5",
        context="<results>/slides/{slide}/patches_1024x1024.h5",
        annotations="<results>/slides/{slide}/annotations.json",
    log:
        "<logs>/extract_patches/{slide}.log",
    benchmark:
        "<benchmarks>/extract_patches/{slide}.tsv"
    wildcard_constraints:
        slide=cfg.pattern("xenium", "synthetic", "image"),
    threads: 1
    resources:
        mem_mb=lambda w, attempt: 4000 * attempt,
        runtime=60,
    params:
        organ=lambda w: cfg.slides[w.slide].organ,
        config=cfg.section("image"),
        code=code_version("data.image.patches"),
    message:
        "Cutting the patches of {wildcards.slide}."
    script:
        "../scripts/extract_patches.py"


rule import_trio:
    input:
        annotations=lambda w: f"{cfg.slides[w.slide].bundle}/annotations.json",
        local_source=lambda w: f"{cfg.slides[w.slide].bundle}/patches_224x224.h5",
        context_source=lambda w: f"{cfg.slides[w.slide].bundle}/patches_1024x1024.h5",
        label_map=cfg.config.labels,
    output:
        cells="<results>/slides/{slide}/cells.parquet",
        labels="<results>/slides/{slide}/labels.parquet",
        local="<results>/slides/{slide}/patches_224x224.h5",
        context="<results>/slides/{slide}/patches_1024x1024.h5",
    log:
        "<logs>/import_trio/{slide}.log",
    benchmark:
        "<benchmarks>/import_trio/{slide}.tsv"
    wildcard_constraints:
        slide=cfg.pattern("trio"),
    threads: 1
    resources:
        mem_mb=lambda w, attempt: 4000 * attempt,
        runtime=60,
    params:
        config=cfg.section("image"),
        code=code_version("data.image.trio"),
    message:
        "Importing the trio {wildcards.slide}."
    script:
        "../scripts/import_trio.py"
