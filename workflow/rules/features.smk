"""Features: what frozen networks compute from a slide, once.

INPUTS   slides/{slide}/{cells.parquet, labels.parquet, split.parquet, patches_{px}x{px}.h5}
         models/{variant}/{local,global}/seed-{seed}/best.ckpt
OUTPUTS  slides/{slide}/features/{{encoder}.{px}.{key}.h5, cells.{variant}.seed-{seed}.h5}
"""


rule embed_windows:
    input:
        lambda w: run.frozen_run(w).encoder_weights(run.frozen_run(w).frozen_field(w)),
        patches=files.further_patches,
    output:
        features=files.window_features,
    log:
        "<logs>/embed_windows/{slide}.{encoder}.{px}.{key}.log",
    benchmark:
        "<benchmarks>/embed_windows/{slide}.{encoder}.{px}.{key}.tsv"
    wildcard_constraints:
        encoder=run.frozen_names,
    threads: run.config.compute.threads
    resources:
        gpu=run.config.compute.gpu,
        precision=run.config.compute.precision,
        workers=run.config.compute.workers,
        cache_gb=run.config.compute.cache_gb,
        mem_mb=run.mem_mb("embed_windows"),
        runtime=60 * run.config.compute.hours,
    params:
        config=lambda w: run.frozen_run(w).frozen_section(w),
        code=code_version("train.features.windows"),
    message:
        "Computing the {wildcards.encoder} features of {wildcards.slide}, windows of {wildcards.px} px."
    script:
        "../scripts/embed_windows.py"


rule embed_cells:
    input:
        cells=files.cells,
        patches=lambda w: run.variants[w.variant].local_source,
        contexts=lambda w: run.variants[w.variant].context_source,
        labels=lambda w: run.labels_of(w.slide, w.variant),
        split=lambda w: run.split_of(w.slide, w.variant),
        local=lambda w: run.checkpoint("local", w.variant),
        global_=for_model(files.checkpoint, "global"),
    output:
        features=files.cell_features,
    log:
        "<logs>/embed_cells/{slide}.{variant}.seed-{seed}.log",
    benchmark:
        "<benchmarks>/embed_cells/{slide}.{variant}.seed-{seed}.tsv"
    threads: run.config.compute.threads
    resources:
        gpu=run.config.compute.gpu,
        precision=run.config.compute.precision,
        workers=run.config.compute.workers,
        cache_gb=run.config.compute.cache_gb,
        mem_mb=run.mem_mb("embed_cells"),
        runtime=60 * run.config.compute.hours,
    params:
        organ=lambda w: run.slides[w.slide].organ,
        code=code_version("train.features.cells"),
    message:
        "Running both paths on {wildcards.slide}, {wildcards.variant}, seed {wildcards.seed}."
    script:
        "../scripts/embed_cells.py"
