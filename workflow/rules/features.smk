"""Features: what frozen networks say of a slide, computed once, and the predictions that follow.

INPUTS   slides/{slide}/{labels.parquet, split.parquet, patches_*.h5}, models/{local,global}/seed-{seed}/best.ckpt
OUTPUTS  slides/{slide}/features/*.h5, predictions/{model}/seed-{seed}/{slide}.parquet
"""


rule embed_context:
    input:
        patches="<results>/slides/{slide}/patches_1024x1024.h5",
    output:
        features="<results>/slides/{slide}/features/{encoder}.1024.h5",
    log:
        "<logs>/embed_context/{slide}.{encoder}.log",
    benchmark:
        "<benchmarks>/embed_context/{slide}.{encoder}.tsv"
    wildcard_constraints:
        encoder=cfg.config.global_.context.name,
    threads: cfg.config.compute.threads
    resources:
        gpu=cfg.config.compute.gpu,
        precision=cfg.config.compute.precision,
        workers=cfg.config.compute.workers,
        cache_gb=cfg.config.compute.cache_gb,
        mem_mb=lambda w, attempt: 16000 * attempt,
        runtime=60 * cfg.config.compute.hours,
    params:
        config=cfg.section("global_", "context"),
        code=code_version("train.features"),
    message:
        "Computing the {wildcards.encoder} features of {wildcards.slide}."
    script:
        "../scripts/embed_context.py"


rule embed_cells:
    input:
        patches="<results>/slides/{slide}/patches_224x224.h5",
        contexts=cfg.context_file,
        labels="<results>/slides/{slide}/labels.parquet",
        split="<results>/slides/{slide}/split.parquet",
        local="<results>/models/local/seed-{seed}/best.ckpt",
        global_="<results>/models/global/seed-{seed}/best.ckpt",
    output:
        features="<results>/slides/{slide}/features/paths.seed-{seed}.h5",
    log:
        "<logs>/embed_cells/{slide}.seed-{seed}.log",
    benchmark:
        "<benchmarks>/embed_cells/{slide}.seed-{seed}.tsv"
    threads: cfg.config.compute.threads
    resources:
        gpu=cfg.config.compute.gpu,
        precision=cfg.config.compute.precision,
        workers=cfg.config.compute.workers,
        cache_gb=cfg.config.compute.cache_gb,
        mem_mb=lambda w, attempt: 4000 * attempt,
        runtime=60 * cfg.config.compute.hours,
    params:
        organ=lambda w: cfg.slides[w.slide].organ,
        code=code_version("train.features"),
    message:
        "Running both paths on {wildcards.slide}, seed {wildcards.seed}."
    script:
        "../scripts/embed_cells.py"


rule predict_slide:
    input:
        features="<results>/slides/{slide}/features/paths.seed-{seed}.h5",
        checkpoint=rules.train_gate.output.checkpoint,
        cells="<results>/slides/{slide}/cells.parquet",
        labels="<results>/slides/{slide}/labels.parquet",
        split="<results>/slides/{slide}/split.parquet",
        patches="<results>/slides/{slide}/patches_1024x1024.h5",
    output:
        local="<results>/predictions/local/seed-{seed}/{slide}.parquet",
        global_="<results>/predictions/global/seed-{seed}/{slide}.parquet",
        gate="<results>/predictions/gate/seed-{seed}/{slide}.parquet",
    log:
        "<logs>/predict_slide/{slide}.seed-{seed}.log",
    benchmark:
        "<benchmarks>/predict_slide/{slide}.seed-{seed}.tsv"
    threads: 1
    resources:
        mem_mb=lambda w, attempt: 4000 * attempt,
        runtime=60,
    params:
        code=code_version("evaluate.predict"),
    message:
        "Predicting {wildcards.slide}, seed {wildcards.seed}."
    script:
        "../scripts/predict_slide.py"
