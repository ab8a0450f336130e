"""Summaries: what the slides hold, how they are registered, how good their labels are, how the run was made.

INPUTS   slides/{slide}/{cells.parquet, labels.parquet, split.parquet, registration.json, image.h5}, predictions/{variant}/{model}/seed-{seed}/{slide}.parquet
         resources/synthetic/{slide}/{truth.parquet, outs/experiment.xenium, {slide}_he_image.ome.tif, {slide}_he_imagealignment.csv}
         config/{slides.tsv, labels.tsv, markers.tsv}, and the files of the slides
OUTPUTS  metrics/{cohort,registration,labels}.parquet, config.yaml, manifest.json
"""


rule summarize_cohort:
    input:
        labels=expand(files.labels, slide=run.cohort_slides + run.labeled_only),
        splits=expand(files.split, slide=run.cohort_slides),
    output:
        cohort=files.cohort_metrics,
    log:
        "<logs>/summarize_cohort.log",
    benchmark:
        "<benchmarks>/summarize_cohort.tsv"
    threads: 1
    resources:
        mem_mb=run.mem_mb("summarize_cohort"),
        runtime=30,
    params:
        names={
            "slides": run.cohort_slides + run.labeled_only,
            "organs": run.organs,
            "roles": {s: run.role(s) for s in run.cohort_slides + run.labeled_only},
            "run": run.config.run,
        },
        code=code_version("summary.cohort"),
    message:
        "Counting the cohort."
    script:
        "../scripts/summarize_cohort.py"


rule summarize_registration:
    input:
        registrations=expand(files.registration, slide=run.registered_slides),
        images=expand(files.image, slide=run.registered_slides),
        cells=expand(files.cells, slide=run.registered_slides),
    output:
        registration=files.registration_metrics,
    log:
        "<logs>/summarize_registration.log",
    benchmark:
        "<benchmarks>/summarize_registration.tsv"
    threads: 1
    resources:
        mem_mb=run.mem_mb("summarize_registration"),
        runtime=30,
    params:
        organs={slide: run.organs[slide] for slide in run.registered_slides},
        code=code_version("summary.registration"),
    message:
        "Collecting the registration of all slides."
    script:
        "../scripts/summarize_registration.py"


rule score_labels:
    input:
        labels=expand(files.labels, slide=run.slides_with_truth),
        truths=expand(SYNTHETIC_TRUTH, slide=run.slides_with_truth),
    output:
        metrics=files.label_metrics,
    log:
        "<logs>/score_labels.log",
    benchmark:
        "<benchmarks>/score_labels.tsv"
    threads: 1
    resources:
        mem_mb=run.mem_mb("score_labels"),
        runtime=30,
    params:
        names={
            "slides": run.slides_with_truth,
            "organs": run.organs,
            "run": run.config.run,
        },
        code=code_version("labeling.accuracy"),
    message:
        "Scoring labels against the known truth."
    script:
        "../scripts/score_labels.py"


rule record_run:
    input:
        tables=ancient(run.config.table_files),
        annotations=ancient(run.annotations),
        sources=run.source_files,
        predictions=[
            *run.all_predictions,
            *expand(files.labels, slide=run.labeled_only),
        ],
    output:
        config_file=files.run_file,
        manifest=files.manifest,
    log:
        "<logs>/record_run.log",
    benchmark:
        "<benchmarks>/record_run.tsv"
    threads: 1
    resources:
        mem_mb=500,
        runtime=60,
    params:
        config=run.checked,
        encoders=run.encoders,
        content=content(run.config.table_files, run.annotations),
        code=code_version("provenance"),
    message:
        "Recording the run."
    script:
        "../scripts/record_run.py"
