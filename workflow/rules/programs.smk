"""Programmes: what each cluster does, by gene sets that the user has downloaded. None are sought unless programs.library names a file.

INPUTS   slides/{slide}/{counts.h5ad, clusters.parquet, markers.parquet}, programs.library, programs.ontology, programs.slim
OUTPUTS  slides/{slide}/programs.parquet
"""


rule find_programs:
    input:
        counts="<results>/slides/{slide}/counts.h5ad",
        clusters=rules.cluster_cells.output.clusters,
        markers=rules.rank_markers.output.markers,
        library=cfg.config.programs.library or [],
        ontology=cfg.config.programs.ontology or [],
        slim=cfg.config.programs.slim or [],
    output:
        programs="<results>/slides/{slide}/programs.parquet",
    log:
        "<logs>/find_programs/{slide}.log",
    benchmark:
        "<benchmarks>/find_programs/{slide}.tsv"
    wildcard_constraints:
        slide=(
            cfg.pattern("xenium", "synthetic")
            if cfg.config.programs.library
            else "(?!)"
        ),
    threads: 1
    resources:
        mem_mb=lambda w, attempt: 4000 * attempt,
        runtime=60,
    params:
        config=cfg.section("programs"),
        code=code_version("expression.programs.stage"),
    message:
        "Finding the programmes of {wildcards.slide}'s clusters."
    script:
        "../scripts/find_programs.py"
