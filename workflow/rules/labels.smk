"""Labels: from counts to clusters, markers, and a label or Unresolved for every cell.

INPUTS   slides/{slide}/{cells.parquet, counts.h5ad}, config/markers.tsv; config/annotation/{slide}.tsv or .csv with config/labels.tsv, where there is one
OUTPUTS  slides/{slide}/{clusters.parquet, clustering.json, markers.parquet, labels.parquet}, metrics/labels.parquet
"""

CLUSTERING_GPU = (
    cfg.config.compute.gpu if cfg.config.clustering.backend == "rapids" else 0
)


rule cluster_cells:
    input:
        counts="<results>/slides/{slide}/counts.h5ad",
    output:
        clusters="<results>/slides/{slide}/clusters.parquet",
        stability="<results>/slides/{slide}/clustering.json",
    log:
        "<logs>/cluster_cells/{slide}.log",
    benchmark:
        "<benchmarks>/cluster_cells/{slide}.tsv"
    threads: 1
    resources:
        mem_mb=lambda w, attempt: 4000 * attempt,
        runtime=120,
        gpu=CLUSTERING_GPU,
    params:
        config=cfg.section("clustering"),
        code=code_version("expression.clustering"),
    message:
        "Clustering the cells of {wildcards.slide}."
    script:
        "../scripts/cluster_cells.py"


rule rank_markers:
    input:
        counts="<results>/slides/{slide}/counts.h5ad",
        clusters=rules.cluster_cells.output.clusters,
        cells="<results>/slides/{slide}/cells.parquet",
    output:
        markers="<results>/slides/{slide}/markers.parquet",
    log:
        "<logs>/rank_markers/{slide}.log",
    benchmark:
        "<benchmarks>/rank_markers/{slide}.tsv"
    threads: 1
    resources:
        mem_mb=lambda w, attempt: 4000 * attempt,
        runtime=60,
    params:
        config=cfg.section("clustering"),
        code=code_version("expression.markers"),
    message:
        "Ranking the markers of {wildcards.slide}'s clusters."
    script:
        "../scripts/rank_markers.py"


rule label_cells:
    input:
        counts="<results>/slides/{slide}/counts.h5ad",
        clusters=rules.cluster_cells.output.clusters,
        knowledge=cfg.config.labeling.markers,
        edits=lambda w: cfg.annotation(w.slide, "tsv"),
        provided=lambda w: cfg.annotation(w.slide, "csv"),
        label_map=lambda w: cfg.config.labels if cfg.annotation(w.slide, "csv") else [],
    output:
        labels="<results>/slides/{slide}/labels.parquet",
    log:
        "<logs>/label_cells/{slide}.log",
    benchmark:
        "<benchmarks>/label_cells/{slide}.tsv"
    wildcard_constraints:
        slide=cfg.pattern("xenium", "synthetic"),
    threads: 1
    resources:
        mem_mb=lambda w, attempt: 4000 * attempt,
        runtime=60,
    params:
        organ=lambda w: cfg.slides[w.slide].organ,
        classes=list(cfg.config.study.classes),
        # Not the whole section: who proposes labels of clusters must not make cells anew.
        config=cfg.config.labeling.model_dump(include={"annotator", "min_confidence"}),
        code=code_version("labeling.stage"),
    message:
        "Labelling the cells of {wildcards.slide}."
    script:
        "../scripts/label_cells.py"
