"""Bundles: make, download or unpack them.

INPUTS   config/slides.tsv: synthetic slides, download addresses, archives
OUTPUTS  resources/synthetic/{slide}/{outs/experiment.xenium, {slide}_he_image.ome.tif, {slide}_he_imagealignment.csv, truth.parquet}
         resources/xenium/{slide}/{outs/experiment.xenium, {slide}_he_image.ome.tif, {slide}_he_imagealignment.csv}
         resources/unpacked/{slide}/experiment.xenium
"""


rule make_slide:
    output:
        manifest="resources/synthetic/{slide}/outs/experiment.xenium",
        image="resources/synthetic/{slide}/{slide}_he_image.ome.tif",
        alignment="resources/synthetic/{slide}/{slide}_he_imagealignment.csv",
        truth=SYNTHETIC_TRUTH,
    log:
        "<logs>/make_slide/{slide}.log",
    benchmark:
        "<benchmarks>/make_slide/{slide}.tsv"
    wildcard_constraints:
        slide=run.pattern("synthetic"),
    threads: 1
    resources:
        mem_mb=run.mem_mb("make_slide"),
        runtime=10,
    params:
        organ=lambda w: run.slides[w.slide].organ,
        seed=lambda w: run.config.synthetic.seeds[w.slide],
        config={k: v for k, v in run.section("synthetic").items() if k != "seeds"},
        code=code_version("phantom"),
    message:
        "Making the synthetic slide {wildcards.slide}."
    script:
        "../scripts/make_slide.py"


rule fetch_slide:
    output:
        manifest="resources/xenium/{slide}/outs/experiment.xenium",
        image="resources/xenium/{slide}/{slide}_he_image.ome.tif",
        alignment="resources/xenium/{slide}/{slide}_he_imagealignment.csv",
    log:
        "<logs>/fetch_slide/{slide}.log",
    benchmark:
        "<benchmarks>/fetch_slide/{slide}.tsv"
    wildcard_constraints:
        slide=run.downloads(run.classified_slides),
    retries: 0
    threads: 1
    resources:
        mem_mb=1000,
        runtime=720,
        sheet=run.config.slides,
    params:
        urls=lambda w: run.slides[w.slide].shown_urls,
        lock="config/locks/{slide}.tsv",
    message:
        "Downloading {wildcards.slide}."
    script:
        "../scripts/fetch_slide.py"


use rule fetch_slide as fetch_bundle with:
    output:
        manifest="resources/xenium/{slide}/outs/experiment.xenium",
    log:
        "<logs>/fetch_bundle/{slide}.log",
    benchmark:
        "<benchmarks>/fetch_bundle/{slide}.tsv"
    wildcard_constraints:
        slide=run.downloads(run.labeled_only),
    message:
        "Downloading the bundle of {wildcards.slide}."


use rule fetch_slide as fetch_image with:
    input:
        # Because both jobs write the lock file of the slide.
        manifest="resources/xenium/{slide}/outs/experiment.xenium",
    output:
        image="resources/xenium/{slide}/{slide}_he_image.ome.tif",
        alignment="resources/xenium/{slide}/{slide}_he_imagealignment.csv",
    log:
        "<logs>/fetch_image/{slide}.log",
    benchmark:
        "<benchmarks>/fetch_image/{slide}.tsv"
    wildcard_constraints:
        slide=run.downloads(run.labeled_only),
    message:
        "Downloading the H&E of {wildcards.slide}."


rule unpack_bundle:
    input:
        archive=lambda w: run.slides[w.slide].bundle,
    output:
        manifest=UNPACKED_MANIFEST,
    log:
        "<logs>/unpack_bundle/{slide}.log",
    benchmark:
        "<benchmarks>/unpack_bundle/{slide}.tsv"
    wildcard_constraints:
        slide=run.archives,
    threads: 1
    resources:
        mem_mb=1000,
        runtime=120,
    message:
        "Unpacking the bundle of {wildcards.slide}."
    script:
        "../scripts/unpack_bundle.py"
