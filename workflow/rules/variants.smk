"""Variants: windows of sides that only they need, and their comparison with the base. Their models are those of models.smk.

INPUTS   slides/{slide}/{cells.parquet, image.h5, registration.json}
         metrics/{variant}/heldout.parquet, predictions/{variant}/{model}/seed-{seed}/{slide}.parquet
OUTPUTS  slides/{slide}/patches_{px}x{px}.h5, metrics/variants.parquet
"""


rule extract_windows:
    input:
        image=files.image,
        registration=files.registration,
        cells=files.cells,
    output:
        patches=files.further_patches,
    log:
        "<logs>/extract_windows/{slide}.{px}.log",
    benchmark:
        "<benchmarks>/extract_windows/{slide}.{px}.tsv"
    wildcard_constraints:
        slide=run.pattern("xenium", "synthetic", "image", "images"),
        px=run.further_sides,
    threads: 1
    resources:
        mem_mb=run.mem_mb("extract_windows"),
        runtime=60,
    params:
        config=run.section("image"),
        code=code_version("data.image.further_windows"),
    message:
        "Cutting the windows of {wildcards.px} px of {wildcards.slide}."
    script:
        "../scripts/extract_windows.py"


rule summarize_variants:
    input:
        heldout=run.scores(files.heldout_metrics),
        predictions=expand(
            files.predictions,
            variant=run.variants,
            model=SCORED_MODELS,
            seed=run.seeds,
            slide=run.heldout_slides,
        ),
    output:
        variants=files.variant_metrics,
    log:
        "<logs>/summarize_variants.log",
    benchmark:
        "<benchmarks>/summarize_variants.tsv"
    threads: 1
    resources:
        mem_mb=run.mem_mb("summarize_variants"),
        runtime=60,
    params:
        names={
            "names": list(run.config.variants),
            "notes": run.variant_warnings,
            "results": run.folders["results"],
            "run": run.config.run,
        },
        config=run.section("evaluation"),
        code=code_version("summary.variants"),
    message:
        "Comparing the variants with the base."
    script:
        "../scripts/summarize_variants.py"
