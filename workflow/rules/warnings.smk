"""Warnings: what the files of a run hold about themselves, for the first screen of the report.

INPUTS   slides/{slide}/{cells.parquet, registration.json, image.h5, nuclei.parquet, labels.parquet, patches_224x224.h5, split.parquet}
         slides/{slide}/features/{encoder}.{px}.{key}.h5
         predictions/{model}/seed-{seed}/{slide}.parquet, metrics/{calibration,heldout}.parquet, manifest.json
OUTPUTS  metrics/warnings.parquet
"""


rule collect_warnings:
    input:
        manifest=[files.manifest],
        cells=expand(files.cells, slide=run.slides),
        registration=expand(files.registration, slide=run.slides_with_image),
        image=expand(files.image, slide=run.slides_with_image),
        nuclei=expand(files.nuclei, slide=run.slides_of("image")),
        labels=expand(files.labels, slide=run.slides),
        local_patches=expand(files.local_patches, slide=run.classified_slides),
        split=expand(files.split, slide=run.classified_slides),
        window_features=expand(run.frozen.values(), slide=run.classified_slides),
        calibration_metrics=[files.calibration_metrics] if run.heldout_slides else [],
        heldout_metrics=[files.heldout_metrics] if run.heldout_slides else [],
        predictions=run.all_predictions,
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
