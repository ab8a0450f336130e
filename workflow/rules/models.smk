"""Models: the two paths, trained on subset `train` of the split; the gate, trained on subset `gate`.

INPUTS   slides/{slide}/{labels.parquet, split.parquet, patches_{px}x{px}.h5}
         slides/{slide}/features/{{encoder}.{px}.{key}.h5, cells.seed-{seed}.h5}
OUTPUTS  models/{local,global,gate}/seed-{seed}/{best.ckpt, history.parquet}
"""


rule train_local:
    input:
        lambda w: run.encoder_weights("local.backbone"),
        patches=expand(run.local_source, slide=run.training_slides),
        labels=expand(files.labels, slide=run.training_slides),
        splits=expand(files.split, slide=run.training_slides),
    output:
        checkpoint=for_model(files.checkpoint, "local"),
        history=for_model(files.history, "local"),
    log:
        "<logs>/train_local/seed-{seed}.log",
    benchmark:
        "<benchmarks>/train_local/seed-{seed}.tsv"
    threads: run.config.compute.threads
    resources:
        gpu=run.config.compute.gpu,
        precision=run.config.compute.precision,
        workers=run.config.compute.workers,
        cache_gb=run.config.compute.cache_gb,
        mem_mb=by_attempt(4000),
        runtime=60 * run.config.compute.hours,
    params:
        organs=[run.organs[slide] for slide in run.training_slides],
        classes=list(run.config.study.classes),
        config=run.section("local"),
        code=code_version("train.local"),
    message:
        "Training the local path, seed {wildcards.seed}."
    script:
        "../scripts/train_local.py"


rule train_global:
    input:
        lambda w: run.encoder_weights("global.context"),
        patches=rules.train_local.input.patches,
        contexts=expand(run.context_source, slide=run.training_slides),
        labels=rules.train_local.input.labels,
        splits=rules.train_local.input.splits,
        local=for_model(files.checkpoint, "local"),
    output:
        checkpoint=for_model(files.checkpoint, "global"),
        history=for_model(files.history, "global"),
    log:
        "<logs>/train_global/seed-{seed}.log",
    benchmark:
        "<benchmarks>/train_global/seed-{seed}.tsv"
    threads: run.config.compute.threads
    resources:
        gpu=run.config.compute.gpu,
        precision=run.config.compute.precision,
        workers=run.config.compute.workers,
        cache_gb=run.config.compute.cache_gb,
        mem_mb=by_attempt(4000),
        runtime=60 * run.config.compute.hours,
    params:
        organs=rules.train_local.params.organs,
        config=run.section("global_"),
        code=code_version("train.global_"),
    message:
        "Training the global path, seed {wildcards.seed}."
    script:
        "../scripts/train_global.py"


rule train_gate:
    input:
        features=expand(
            files.cell_features, slide=run.training_slides, allow_missing=True
        ),
        labels=rules.train_local.input.labels,
        splits=rules.train_local.input.splits,
    output:
        checkpoint=for_model(files.checkpoint, "gate"),
        history=for_model(files.history, "gate"),
    log:
        "<logs>/train_gate/seed-{seed}.log",
    benchmark:
        "<benchmarks>/train_gate/seed-{seed}.tsv"
    threads: 2
    resources:
        mem_mb=by_attempt(4000),
        runtime=60,
    params:
        config=run.section("gate"),
        code=code_version("train.gate"),
    message:
        "Training the gate, seed {wildcards.seed}."
    script:
        "../scripts/train_gate.py"
