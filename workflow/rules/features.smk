"""Features: what frozen networks compute from a slide, once.

INPUTS   slides/{slide}/{labels.parquet, split.parquet, patches_224x224.h5, patches_1024x1024.h5}, models/{local,global}/seed-{seed}/best.ckpt
OUTPUTS  slides/{slide}/features/{{encoder}.1024.h5, cells.seed-{seed}.h5}
"""


rule embed_context:
    input:
        lambda w: run.encoder_weights("global.context"),
        patches=files.context_patches,
    output:
        features=files.context_features,
    log:
        "<logs>/embed_context/{slide}.{encoder}.log",
    benchmark:
        "<benchmarks>/embed_context/{slide}.{encoder}.tsv"
    wildcard_constraints:
        encoder=run.config.global_.context.name,
    threads: run.config.compute.threads
    resources:
        gpu=run.config.compute.gpu,
        precision=run.config.compute.precision,
        workers=run.config.compute.workers,
        cache_gb=run.config.compute.cache_gb,
        mem_mb=by_attempt(16000),
        runtime=60 * run.config.compute.hours,
    params:
        config=run.section("global_", "context"),
        code=code_version("train.features"),
    message:
        "Computing the {wildcards.encoder} features of {wildcards.slide}."
    script:
        "../scripts/embed_context.py"


rule embed_cells:
    input:
        patches=files.local_patches,
        contexts=run.context_source,
        labels=files.labels,
        split=files.split,
        local=for_model(files.checkpoint, "local"),
        global_=for_model(files.checkpoint, "global"),
    output:
        features=files.cell_features,
    log:
        "<logs>/embed_cells/{slide}.seed-{seed}.log",
    benchmark:
        "<benchmarks>/embed_cells/{slide}.seed-{seed}.tsv"
    threads: run.config.compute.threads
    resources:
        gpu=run.config.compute.gpu,
        precision=run.config.compute.precision,
        workers=run.config.compute.workers,
        cache_gb=run.config.compute.cache_gb,
        mem_mb=by_attempt(4000),
        runtime=60 * run.config.compute.hours,
    params:
        organ=lambda w: run.slides[w.slide].organ,
        code=code_version("train.features"),
    message:
        "Running both paths on {wildcards.slide}, seed {wildcards.seed}."
    script:
        "../scripts/embed_cells.py"
