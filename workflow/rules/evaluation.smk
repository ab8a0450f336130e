"""Evaluation: calibrate on validation cells, score held-out slides, compare the paths.

INPUTS   predictions/{model}/seed-{seed}/{slide}.parquet
OUTPUTS  metrics/{calibration,heldout,reliability,complementarity}.parquet
"""

HELDOUT = cfg.slides_of(role="heldout")
MEASURED = cfg.slides_of("xenium", "synthetic")
ORGANS = {slide: cfg.slides[slide].organ for slide in cfg.slides}
PREDICTIONS = "<results>/predictions/{model}/seed-{seed}/{slide}.parquet"
MODELS = ["local", "global", "gate"]
SEEDS = list(cfg.config.seeds)


rule calibrate_models:
    input:
        predictions=expand(PREDICTIONS, model=MODELS, seed=SEEDS, slide=TRAIN),
    output:
        output="<results>/metrics/calibration.parquet",
    log:
        "<logs>/calibrate_models.log",
    benchmark:
        "<benchmarks>/calibrate_models.tsv"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        names={"models": MODELS, "seeds": SEEDS, "slides": TRAIN, "run": cfg.config.run},
        config=cfg.section("evaluation"),
        code=code_version("evaluate.calibration"),
    message:
        "Calibrating the models on validation cells."
    script:
        "../scripts/calibrate_models.py"


rule score_predictions:
    input:
        predictions=expand(PREDICTIONS, model=MODELS, seed=SEEDS, slide=HELDOUT),
        calibration=rules.calibrate_models.output.output,
    output:
        output="<results>/metrics/heldout.parquet",
        reliability="<results>/metrics/reliability.parquet",
    log:
        "<logs>/score_predictions.log",
    benchmark:
        "<benchmarks>/score_predictions.tsv"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        names={
            "models": MODELS,
            "seeds": SEEDS,
            "slides": HELDOUT,
            "organs": ORGANS,
            "run": cfg.config.run,
        },
        config=cfg.section("evaluation"),
        code=code_version("evaluate.heldout"),
    message:
        "Scoring the held-out slides."
    script:
        "../scripts/score_predictions.py"


rule compare_paths:
    input:
        predictions=rules.score_predictions.input.predictions,
    output:
        output="<results>/metrics/complementarity.parquet",
    log:
        "<logs>/compare_paths.log",
    benchmark:
        "<benchmarks>/compare_paths.tsv"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        names={
            "seeds": SEEDS,
            "slides": HELDOUT,
            "organs": ORGANS,
            "run": cfg.config.run,
        },
        config=cfg.section("evaluation"),
        code=code_version("evaluate.comparison"),
    message:
        "Comparing the paths with the gate."
    script:
        "../scripts/compare_paths.py"
