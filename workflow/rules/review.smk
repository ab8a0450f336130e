"""Review: what each cluster looks like, with the evidence, for a person to judge.

INPUTS   slides/{slide}/{counts.h5ad, clusters.parquet, markers.parquet, labels.parquet, programs.parquet}, config/markers.tsv
OUTPUTS  slides/{slide}/proposals.tsv
"""

LANGUAGE_MODEL = cfg.config.labeling.cluster_annotator == "llm-score"


rule propose_labels:
    input:
        counts="<results>/slides/{slide}/counts.h5ad",
        clusters=rules.cluster_cells.output.clusters,
        markers=rules.rank_markers.output.markers,
        labels=rules.label_cells.output.labels,
        knowledge=cfg.config.labeling.markers,
        programs=(
            rules.find_programs.output.programs if cfg.config.programs.library else []
        ),
    output:
        proposals="<results>/slides/{slide}/proposals.tsv",
    log:
        "<logs>/propose_labels/{slide}.log",
    benchmark:
        "<benchmarks>/propose_labels/{slide}.tsv"
    wildcard_constraints:
        slide=cfg.pattern("xenium", "synthetic"),
    threads: cfg.config.compute.threads if LANGUAGE_MODEL else 1
    resources:
        mem_mb=lambda w, attempt: (12000 if LANGUAGE_MODEL else 4000) * attempt,
        runtime=120 if LANGUAGE_MODEL else 30,
    params:
        organ=lambda w: cfg.slides[w.slide].organ,
        config=cfg.config.labeling.model_dump(include={"cluster_annotator", "model"}),
        code=code_version("labeling.review"),
    message:
        "Proposing labels of {wildcards.slide}'s clusters."
    script:
        "../scripts/propose_labels.py"
