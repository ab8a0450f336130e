"""Predictions: the classes of all cells, the temperatures that calibrate them, and where the paths look for a few of them.

INPUTS   slides/{slide}/{cells.parquet, labels.parquet, split.parquet, patches_224x224.h5, patches_1024x1024.h5}
         slides/{slide}/features/cells.{variant}.seed-{seed}.h5, predictions/{variant}/gate/seed-{seed}/{slide}.parquet
         models/{variant}/{{local,global,gate}/seed-{seed}/best.ckpt, temperatures.parquet}
OUTPUTS  predictions/{variant}/{local,global,gate}/seed-{seed}/{slide}.parquet, models/{variant}/temperatures.parquet
         metrics/{variant}/attribution/seed-{seed}/{slide}.parquet
"""


rule predict_slide:
    input:
        features=lambda w: run.cell_features(w.variant),
        checkpoint=for_model(files.checkpoint, "gate"),
        cells=files.cells,
        labels=lambda w: run.labels_of(w.slide, w.variant),
        split=lambda w: run.split_of(w.slide, w.variant),
        patches=lambda w: run.variants[w.variant].context_windows,
        temperatures=lambda w: run.temperatures_for(w.slide),
    output:
        local=for_model(files.predictions, "local"),
        global_=for_model(files.predictions, "global"),
        gate=for_model(files.predictions, "gate"),
    log:
        "<logs>/predict_slide/{slide}.{variant}.seed-{seed}.log",
    benchmark:
        "<benchmarks>/predict_slide/{slide}.{variant}.seed-{seed}.tsv"
    threads: 1
    resources:
        gpu=run.config.compute.gate_gpu,
        mem_mb=run.mem_mb("predict_slide"),
        runtime=60,
    params:
        code=code_version("evaluate.predict"),
    message:
        "Predicting {wildcards.slide}, {wildcards.variant}, seed {wildcards.seed}."
    script:
        "../scripts/predict_slide.py"


rule fit_temperatures:
    input:
        features=lambda w: expand(
            run.cell_features(w.variant), seed=run.seeds, slide=run.training_slides
        ),
        checkpoints=expand(
            for_model(files.checkpoint, "gate"), seed=run.seeds, allow_missing=True
        ),
        labels=run.training_labels,
        splits=run.training_splits,
    output:
        temperatures=files.temperatures,
    log:
        "<logs>/fit_temperatures/{variant}.log",
    benchmark:
        "<benchmarks>/fit_temperatures/{variant}.tsv"
    threads: 1
    resources:
        mem_mb=run.mem_mb("fit_temperatures"),
        runtime=60,
    params:
        names={"seeds": run.seeds, "run": run.config.run},
        code=code_version("evaluate.temperatures"),
    message:
        "Fitting the temperatures on training slides, {wildcards.variant}."
    script:
        "../scripts/fit_temperatures.py"


rule explain_cells:
    input:
        lambda w: run.variants[w.variant].frozen_weights,
        patches=lambda w: run.variants[w.variant].local_windows,
        contexts=lambda w: run.variants[w.variant].context_windows,
        labels=lambda w: run.labels_of(w.slide, w.variant),
        split=lambda w: run.split_of(w.slide, w.variant),
        local=lambda w: run.checkpoint("local", w.variant),
        global_=lambda w: run.checkpoint("global", w.variant),
        gate=for_model(files.predictions, "gate"),
    output:
        attribution=files.attribution_metrics,
    log:
        "<logs>/explain_cells/{slide}.{variant}.seed-{seed}.log",
    benchmark:
        "<benchmarks>/explain_cells/{slide}.{variant}.seed-{seed}.tsv"
    threads: 2
    resources:
        gpu=run.config.compute.gpu,
        mem_mb=run.mem_mb("explain_cells"),
        runtime=60,
    params:
        organ=lambda w: run.slides[w.slide].organ,
        config=run.section("attribution"),
        code=code_version("evaluate.attribution"),
    message:
        "Explaining cells of {wildcards.slide}, {wildcards.variant}, seed {wildcards.seed}."
    script:
        "../scripts/explain_cells.py"
