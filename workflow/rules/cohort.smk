"""Cohort: what the slides hold, how they are registered, how good their labels are.

INPUTS   slides/{slide}/{cells,labels,split}.parquet, registration.json, image.h5; truth.parquet of synthetic slides
OUTPUTS  metrics/{cohort,registration,labels}.parquet, config.yaml, manifest.json
"""

PLANTED = cfg.slides_of("synthetic")
STUDIED = [*TRAIN, *HELDOUT]


rule summarize_cohort:
    input:
        labels=expand("<results>/slides/{slide}/labels.parquet", slide=STUDIED),
        splits=expand("<results>/slides/{slide}/split.parquet", slide=STUDIED),
    output:
        output="<results>/metrics/cohort.parquet",
    log:
        "<logs>/summarize_cohort.log",
    benchmark:
        "<benchmarks>/summarize_cohort.tsv"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        names={
            "slides": STUDIED,
            "organs": ORGANS,
            "roles": {slide: cfg.role(slide) for slide in STUDIED},
            "run": cfg.config.run,
        },
        code=code_version("summary.cohort"),
    message:
        "Counting the cohort."
    script:
        "../scripts/summarize_cohort.py"


rule summarize_registration:
    input:
        registrations=expand(
            "<results>/slides/{slide}/registration.json", slide=MEASURED
        ),
        images=expand("<results>/slides/{slide}/image.h5", slide=MEASURED),
        cells=expand("<results>/slides/{slide}/cells.parquet", slide=MEASURED),
    output:
        output="<results>/metrics/registration.parquet",
    log:
        "<logs>/summarize_registration.log",
    benchmark:
        "<benchmarks>/summarize_registration.tsv"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        organs={slide: ORGANS[slide] for slide in MEASURED},
        code=code_version("summary.registration"),
    message:
        "Collecting the registration of all slides."
    script:
        "../scripts/summarize_registration.py"


rule score_labels:
    input:
        labels=expand("<results>/slides/{slide}/labels.parquet", slide=PLANTED),
        truths=expand("resources/synthetic/{slide}/truth.parquet", slide=PLANTED),
    output:
        output="<results>/metrics/labels.parquet",
    log:
        "<logs>/score_labels.log",
    benchmark:
        "<benchmarks>/score_labels.tsv"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        names={"slides": PLANTED, "organs": ORGANS, "run": cfg.config.run},
        code=code_version("labeling.accuracy"),
    message:
        "Scoring labels against the planted truth."
    script:
        "../scripts/score_labels.py"


rule record_run:
    input:
        inputs=[cfg.config.slides, cfg.config.labels, cfg.config.labeling.markers],
    output:
        config_file="<results>/config.yaml",
        manifest="<results>/manifest.json",
    log:
        "<logs>/record_run.log",
    benchmark:
        "<benchmarks>/record_run.tsv"
    threads: 1
    resources:
        mem_mb=500,
        runtime=5,
    params:
        config=cfg.config.model_dump(mode="json", by_alias=True),
        code=code_version("provenance"),
    message:
        "Recording the run."
    script:
        "../scripts/record_run.py"
