"""Expression: clusters and their markers, spatial domains, and gene programs if the run file names a library.

INPUTS   slides/{slide}/{cells.parquet, counts.h5ad}, programs.{library, ontology, slim}, clusters of the slide sheet
OUTPUTS  slides/{slide}/{clusters.parquet, clustering.json, markers.parquet, gene_scores.parquet}
         slides/{slide}/{domains.parquet, domain_scores.parquet, programs.parquet}
"""


rule cluster_cells:
    input:
        lambda w: run.clustering_needs,
        counts=files.counts,
        given=lambda w: ancient(run.own_clusters(w.slide)),
    output:
        clusters=files.clusters,
        stability=files.clustering,
    log:
        "<logs>/cluster_cells/{slide}.log",
    benchmark:
        "<benchmarks>/cluster_cells/{slide}.tsv"
    threads: lambda w: run.clustering_threads(w.slide)
    resources:
        gpu=run.clustering_gpu,
        mem_mb=run.mem_mb("cluster_cells"),
        runtime=120,
    params:
        config=run.section("clustering"),
        column=lambda w: run.cluster_column(w.slide),
        content=lambda w: content(run.own_clusters(w.slide)),
        code=code_version("expression.clustering"),
    message:
        "Clustering the cells of {wildcards.slide}."
    script:
        "../scripts/cluster_cells.py"


rule rank_markers:
    input:
        counts=files.counts,
        clusters=files.clusters,
        cells=files.cells,
    output:
        markers=files.markers,
        gene_scores=files.gene_scores,
    log:
        "<logs>/rank_markers/{slide}.log",
    benchmark:
        "<benchmarks>/rank_markers/{slide}.tsv"
    threads: 1
    resources:
        mem_mb=run.mem_mb("rank_markers"),
        runtime=60,
    params:
        config=run.section("clustering"),
        code=code_version("expression.markers"),
    message:
        "Ranking the markers of {wildcards.slide}'s clusters."
    script:
        "../scripts/rank_markers.py"


rule find_domains:
    input:
        counts=files.counts,
        cells=files.cells,
    output:
        domains=files.domains,
        scores=files.domain_scores,
    log:
        "<logs>/find_domains/{slide}.log",
    benchmark:
        "<benchmarks>/find_domains/{slide}.tsv"
    wildcard_constraints:
        slide=run.pattern("xenium", "synthetic"),
    threads: 1
    resources:
        mem_mb=run.mem_mb("find_domains"),
        runtime=60,
    params:
        run=run.config.slides_run,
        organ=lambda w: run.slides[w.slide].organ,
        config=run.section("domains"),
        code=code_version("expression.domains.stage"),
    message:
        "Finding the domains of {wildcards.slide}."
    script:
        "../scripts/find_domains.py"


rule find_programs:
    input:
        gene_scores=files.gene_scores,
        markers=files.markers,
        library=run.config.programs.library or [],
        ontology=run.config.programs.ontology or [],
        slim=run.config.programs.slim or [],
    output:
        programs=files.programs,
    log:
        "<logs>/find_programs/{slide}.log",
    benchmark:
        "<benchmarks>/find_programs/{slide}.tsv"
    wildcard_constraints:
        slide="|".join(run.slides_with_programs) or "(?!)",
    threads: 1
    resources:
        mem_mb=run.mem_mb("find_programs"),
        runtime=60,
    params:
        config=run.section("programs"),
        code=code_version("expression.programs.stage"),
    message:
        "Finding the programs of {wildcards.slide}'s clusters."
    script:
        "../scripts/find_programs.py"
