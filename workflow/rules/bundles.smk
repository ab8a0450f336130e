"""Bundles that come as archives.

INPUTS   config/slides.tsv: a bundle that is a .zip, .tar or .tar.gz
OUTPUTS  resources/unpacked/{slide}/, whole once it holds experiment.xenium
"""


rule unpack_bundle:
    input:
        archive=lambda w: cfg.slides[w.slide].bundle,
    output:
        manifest="resources/unpacked/{slide}/experiment.xenium",
    log:
        "<logs>/unpack_bundle/{slide}.log",
    benchmark:
        "<benchmarks>/unpack_bundle/{slide}.tsv"
    wildcard_constraints:
        slide=cfg.archives,
    threads: 1
    resources:
        mem_mb=1000,
        runtime=120,
    message:
        "Unpacking the bundle of {wildcards.slide}."
    script:
        "../scripts/unpack_bundle.py"
