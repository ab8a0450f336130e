"""Models: the two paths, trained on subset `train` of the split; the gate, trained on subset `gate`. Each variant trains what it changes.

INPUTS   slides/{slide}/{labels.parquet, split.parquet, patches_{px}x{px}.h5}
         slides/{slide}/features/{{encoder}.{px}.{key}.h5, cells.{variant}.seed-{seed}.h5}
OUTPUTS  models/{variant}/{local,global,gate}/seed-{seed}/{best.ckpt, history.parquet}
"""


rule train_local:
    input:
        lambda w: run.variants[w.variant].encoder_weights("local.backbone"),
        patches=lambda w: expand(
            run.variants[w.variant].local_source, slide=run.training_slides
        ),
        labels=run.training_labels,
        splits=run.training_splits,
    output:
        checkpoint=for_model(files.checkpoint, "local"),
        history=for_model(files.history, "local"),
    log:
        "<logs>/train_local/{variant}.seed-{seed}.log",
    benchmark:
        "<benchmarks>/train_local/{variant}.seed-{seed}.tsv"
    threads: run.config.compute.threads
    resources:
        gpu=run.training_gpus,
        nodes=1,
        devices=run.config.compute.devices,
        precision=run.config.compute.precision,
        workers=run.config.compute.workers,
        cache_gb=run.config.compute.cache_gb,
        checkpoint_minutes=run.config.compute.checkpoint_minutes,
        mem_mb=run.mem_mb("train_local"),
        runtime=60 * run.config.compute.hours,
    params:
        organs=[run.organs[slide] for slide in run.training_slides],
        classes=list(run.config.study.classes),
        config=lambda w: run.variants[w.variant].section("local"),
        code=code_version("train.local"),
    message:
        "Training the local path, {wildcards.variant}, seed {wildcards.seed}."
    script:
        "../scripts/train_local.py"


rule train_global:
    input:
        lambda w: run.variants[w.variant].encoder_weights("global.context"),
        patches=rules.train_local.input.patches,
        contexts=lambda w: expand(
            run.variants[w.variant].context_source, slide=run.training_slides
        ),
        labels=run.training_labels,
        splits=run.training_splits,
        local=lambda w: run.checkpoint("local", w.variant),
    output:
        checkpoint=for_model(files.checkpoint, "global"),
        history=for_model(files.history, "global"),
    log:
        "<logs>/train_global/{variant}.seed-{seed}.log",
    benchmark:
        "<benchmarks>/train_global/{variant}.seed-{seed}.tsv"
    threads: run.config.compute.threads
    resources:
        gpu=run.training_gpus,
        nodes=1,
        devices=run.config.compute.devices,
        precision=run.config.compute.precision,
        workers=run.config.compute.workers,
        cache_gb=run.config.compute.cache_gb,
        checkpoint_minutes=run.config.compute.checkpoint_minutes,
        mem_mb=run.mem_mb("train_global"),
        runtime=60 * run.config.compute.hours,
    params:
        organs=rules.train_local.params.organs,
        config=lambda w: run.variants[w.variant].section("global_"),
        code=code_version("train.global_"),
    message:
        "Training the global path, {wildcards.variant}, seed {wildcards.seed}."
    script:
        "../scripts/train_global.py"


rule train_gate:
    input:
        features=lambda w: expand(
            run.cell_features(w.variant), slide=run.training_slides, seed=w.seed
        ),
        labels=run.training_labels,
        splits=run.training_splits,
    output:
        checkpoint=for_model(files.checkpoint, "gate"),
        history=for_model(files.history, "gate"),
    log:
        "<logs>/train_gate/{variant}.seed-{seed}.log",
    benchmark:
        "<benchmarks>/train_gate/{variant}.seed-{seed}.tsv"
    threads: 2
    resources:
        gpu=run.config.compute.gate_gpu,
        mem_mb=run.mem_mb("train_gate"),
        runtime=60,
    params:
        config=lambda w: run.variants[w.variant].section("gate"),
        code=code_version("train.gate"),
    message:
        "Training the gate, {wildcards.variant}, seed {wildcards.seed}."
    script:
        "../scripts/train_gate.py"
