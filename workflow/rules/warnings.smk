"""Warnings: what the files of a run hold about themselves, for the first screen of the report.

INPUTS   slides/{slide}/{cells.parquet, registration.json, image.h5, nuclei.parquet, labels.parquet, patches_{px}x{px}.h5, split.parquet}
         variants/{variant}/slides/{slide}/{labels.parquet, split.parquet}
         slides/{slide}/features/{encoder}.{px}.{key}.h5
         predictions/{variant}/{model}/seed-{seed}/{slide}.parquet, metrics/{variant}/{calibration,heldout}.parquet, manifest.json
         metrics/variants.parquet
OUTPUTS  metrics/warnings.parquet
"""


rule collect_warnings:
    input:
        manifest=[files.manifest],
        cells=expand(files.cells, slide=run.slides),
        registration=expand(files.registration, slide=run.slides_with_image),
        image=expand(files.image, slide=run.slides_with_image),
        nuclei=expand(files.nuclei, slide=run.slides_of("image")),
        clusters=expand(files.clusters, slide=run.clustered_by_hand),
        labels=expand(files.labels, slide=run.slides),
        variant_labels=run.further_labels,
        local_patches=expand(files.local_patches, slide=run.classified_slides),
        split=expand(files.split, slide=run.classified_slides),
        variant_split=run.further_splits,
        window_features=run.frozen_files,
        calibration_metrics=run.scores(files.calibration_metrics),
        heldout_metrics=run.scores(files.heldout_metrics),
        predictions=run.all_predictions,
        variant_metrics=[files.variant_metrics] if run.config.variants else [],
    output:
        warnings=files.warnings,
    log:
        "<logs>/collect_warnings.log",
    benchmark:
        "<benchmarks>/collect_warnings.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=code_version("summary.warnings"),
    message:
        "Collecting the warnings."
    script:
        "../scripts/collect_warnings.py"
