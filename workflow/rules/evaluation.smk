"""Evaluation: calibrate on training slides, score held-out slides, compare the paths.

INPUTS   predictions/{variant}/{model}/seed-{seed}/{slide}.parquet
OUTPUTS  metrics/{variant}/{calibration,heldout,reliability,complementarity}.parquet
"""


rule calibrate_models:
    input:
        predictions=expand(
            files.predictions,
            model=SCORED_MODELS,
            seed=run.seeds,
            slide=run.training_slides,
            allow_missing=True,
        ),
    output:
        calibration=files.calibration_metrics,
    log:
        "<logs>/calibrate_models/{variant}.log",
    benchmark:
        "<benchmarks>/calibrate_models/{variant}.tsv"
    threads: 1
    resources:
        mem_mb=run.mem_mb("calibrate_models"),
        runtime=30,
    params:
        names={
            "models": list(SCORED_MODELS),
            "seeds": run.seeds,
            "slides": run.training_slides,
            "run": run.config.run,
        },
        config=run.section("evaluation"),
        code=code_version("evaluate.calibration"),
    message:
        "Calibrating the models on training slides, {wildcards.variant}."
    script:
        "../scripts/calibrate_models.py"


rule score_predictions:
    input:
        predictions=expand(
            files.predictions,
            model=SCORED_MODELS,
            seed=run.seeds,
            slide=run.heldout_slides,
            allow_missing=True,
        ),
        calibration=files.calibration_metrics,
    output:
        heldout=files.heldout_metrics,
        reliability=files.reliability_metrics,
    log:
        "<logs>/score_predictions/{variant}.log",
    benchmark:
        "<benchmarks>/score_predictions/{variant}.tsv"
    threads: 1
    resources:
        mem_mb=run.mem_mb("score_predictions"),
        runtime=30,
    params:
        names={
            "models": list(SCORED_MODELS),
            "seeds": run.seeds,
            "slides": run.heldout_slides,
            "organs": run.organs,
            "run": run.config.run,
        },
        config=run.section("evaluation"),
        code=code_version("evaluate.heldout"),
    message:
        "Scoring the held-out slides, {wildcards.variant}."
    script:
        "../scripts/score_predictions.py"


rule compare_paths:
    input:
        predictions=rules.score_predictions.input.predictions,
    output:
        complementarity=files.complementarity_metrics,
    log:
        "<logs>/compare_paths/{variant}.log",
    benchmark:
        "<benchmarks>/compare_paths/{variant}.tsv"
    threads: 1
    resources:
        mem_mb=run.mem_mb("compare_paths"),
        runtime=30,
    params:
        names={
            "seeds": run.seeds,
            "slides": run.heldout_slides,
            "organs": run.organs,
            "run": run.config.run,
        },
        config=run.section("evaluation"),
        code=code_version("evaluate.comparison"),
    message:
        "Comparing the paths with the gate, {wildcards.variant}."
    script:
        "../scripts/compare_paths.py"
