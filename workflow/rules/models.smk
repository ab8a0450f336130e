"""Models: train the two paths on part `train`, the gate on part `gate`.

INPUTS   slides/{slide}/{labels.parquet, split.parquet, patches_224x224.h5, patches_1024x1024.h5, features/*.h5}
OUTPUTS  models/{local,global,gate}/seed-{seed}/{best.ckpt, history.parquet}
"""

TRAIN = cfg.slides_of(role="train")


rule train_local:
    input:
        patches=expand("<results>/slides/{slide}/patches_224x224.h5", slide=TRAIN),
        labels=expand("<results>/slides/{slide}/labels.parquet", slide=TRAIN),
        splits=expand("<results>/slides/{slide}/split.parquet", slide=TRAIN),
    output:
        checkpoint="<results>/models/local/seed-{seed}/best.ckpt",
        history="<results>/models/local/seed-{seed}/history.parquet",
    log:
        "<logs>/train_local/seed-{seed}.log",
    benchmark:
        "<benchmarks>/train_local/seed-{seed}.tsv"
    threads: cfg.config.compute.threads
    resources:
        gpu=cfg.config.compute.gpu,
        precision=cfg.config.compute.precision,
        workers=cfg.config.compute.workers,
        cache_gb=cfg.config.compute.cache_gb,
        mem_mb=lambda w, attempt: 4000 * attempt,
        runtime=60 * cfg.config.compute.hours,
    params:
        organs=[cfg.slides[slide].organ for slide in TRAIN],
        classes=list(cfg.config.study.classes),
        config=cfg.section("local"),
        code=code_version("train.local"),
    message:
        "Training the local path, seed {wildcards.seed}."
    script:
        "../scripts/train_local.py"


rule train_global:
    input:
        patches=rules.train_local.input.patches,
        contexts=expand(cfg.context_file, slide=TRAIN),
        labels=rules.train_local.input.labels,
        splits=rules.train_local.input.splits,
        local=rules.train_local.output.checkpoint,
    output:
        checkpoint="<results>/models/global/seed-{seed}/best.ckpt",
        history="<results>/models/global/seed-{seed}/history.parquet",
    log:
        "<logs>/train_global/seed-{seed}.log",
    benchmark:
        "<benchmarks>/train_global/seed-{seed}.tsv"
    threads: cfg.config.compute.threads
    resources:
        gpu=cfg.config.compute.gpu,
        precision=cfg.config.compute.precision,
        workers=cfg.config.compute.workers,
        cache_gb=cfg.config.compute.cache_gb,
        mem_mb=lambda w, attempt: 4000 * attempt,
        runtime=60 * cfg.config.compute.hours,
    params:
        organs=rules.train_local.params.organs,
        config=cfg.section("global_"),
        code=code_version("train.global_"),
    message:
        "Training the global path, seed {wildcards.seed}."
    script:
        "../scripts/train_global.py"


rule train_gate:
    input:
        features=expand(
            "<results>/slides/{slide}/features/paths.seed-{{seed}}.h5", slide=TRAIN
        ),
        labels=rules.train_local.input.labels,
        splits=rules.train_local.input.splits,
    output:
        checkpoint="<results>/models/gate/seed-{seed}/best.ckpt",
        history="<results>/models/gate/seed-{seed}/history.parquet",
    log:
        "<logs>/train_gate/seed-{seed}.log",
    benchmark:
        "<benchmarks>/train_gate/seed-{seed}.tsv"
    threads: 2
    resources:
        mem_mb=lambda w, attempt: 4000 * attempt,
        runtime=60,
    params:
        config=cfg.section("gate"),
        code=code_version("train.gate"),
    message:
        "Training the gate, seed {wildcards.seed}."
    script:
        "../scripts/train_gate.py"
