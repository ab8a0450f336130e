"""Predictions: the classes of all cells, the temperatures that calibrate them, and where the paths look for a few of them.

INPUTS   slides/{slide}/{cells.parquet, labels.parquet, split.parquet, patches_224x224.h5, patches_1024x1024.h5, features/cells.seed-{seed}.h5}
         predictions/gate/seed-{seed}/{slide}.parquet
         models/{{local,global,gate}/seed-{seed}/best.ckpt, temperatures.parquet}
OUTPUTS  predictions/{local,global,gate}/seed-{seed}/{slide}.parquet, metrics/attribution/seed-{seed}/{slide}.parquet
         models/temperatures.parquet
"""


rule predict_slide:
    input:
        features=files.cell_features,
        checkpoint=for_model(files.checkpoint, "gate"),
        cells=files.cells,
        labels=files.labels,
        split=files.split,
        patches=files.context_patches,
        temperatures=lambda w: run.temperatures_for(w.slide),
    output:
        local=for_model(files.predictions, "local"),
        global_=for_model(files.predictions, "global"),
        gate=for_model(files.predictions, "gate"),
    log:
        "<logs>/predict_slide/{slide}.seed-{seed}.log",
    benchmark:
        "<benchmarks>/predict_slide/{slide}.seed-{seed}.tsv"
    threads: 1
    resources:
        mem_mb=by_attempt(4000),
        runtime=60,
    params:
        code=code_version("evaluate.predict"),
    message:
        "Predicting {wildcards.slide}, seed {wildcards.seed}."
    script:
        "../scripts/predict_slide.py"


rule fit_temperatures:
    input:
        features=expand(files.cell_features, seed=run.seeds, slide=run.training_slides),
        checkpoints=expand(for_model(files.checkpoint, "gate"), seed=run.seeds),
        labels=expand(files.labels, slide=run.training_slides),
        splits=expand(files.split, slide=run.training_slides),
    output:
        temperatures=files.temperatures,
    log:
        "<logs>/fit_temperatures.log",
    benchmark:
        "<benchmarks>/fit_temperatures.tsv"
    threads: 1
    resources:
        mem_mb=by_attempt(4000),
        runtime=60,
    params:
        names={"seeds": run.seeds, "run": run.config.run},
        code=code_version("evaluate.temperatures"),
    message:
        "Fitting the temperatures on training slides."
    script:
        "../scripts/fit_temperatures.py"


rule explain_cells:
    input:
        lambda w: run.frozen_weights,
        patches=files.local_patches,
        contexts=files.context_patches,
        labels=files.labels,
        split=files.split,
        local=for_model(files.checkpoint, "local"),
        global_=for_model(files.checkpoint, "global"),
        gate=for_model(files.predictions, "gate"),
    output:
        attribution=files.attribution_metrics,
    log:
        "<logs>/explain_cells/{slide}.seed-{seed}.log",
    benchmark:
        "<benchmarks>/explain_cells/{slide}.seed-{seed}.tsv"
    threads: 2
    resources:
        gpu=run.config.compute.gpu,
        mem_mb=by_attempt(8000),
        runtime=60,
    params:
        organ=lambda w: run.slides[w.slide].organ,
        config=run.section("attribution"),
        code=code_version("evaluate.attribution"),
    message:
        "Explaining cells of {wildcards.slide}, seed {wildcards.seed}."
    script:
        "../scripts/explain_cells.py"
