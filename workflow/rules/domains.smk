"""Domains: neighbourhoods of a slide, by smoothed factors of expression.

INPUTS   slides/{slide}/{cells.parquet, counts.h5ad}
OUTPUTS  slides/{slide}/{domains,domain_scores}.parquet
"""


rule find_domains:
    input:
        counts="<results>/slides/{slide}/counts.h5ad",
        cells="<results>/slides/{slide}/cells.parquet",
    output:
        domains="<results>/slides/{slide}/domains.parquet",
        scores="<results>/slides/{slide}/domain_scores.parquet",
    log:
        "<logs>/find_domains/{slide}.log",
    benchmark:
        "<benchmarks>/find_domains/{slide}.tsv"
    wildcard_constraints:
        slide=cfg.pattern("xenium", "synthetic"),
    threads: 1
    resources:
        mem_mb=lambda w, attempt: 6000 * attempt,
        runtime=60,
    params:
        run=cfg.config.run,
        organ=lambda w: cfg.slides[w.slide].organ,
        config=cfg.section("domains"),
        code=code_version("expression.domains.stage"),
    message:
        "Finding the domains of {wildcards.slide}."
    script:
        "../scripts/find_domains.py"
