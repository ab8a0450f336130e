"""Review: what each cluster looks like, with the evidence, for a person to judge; and on demand what each part of it is worth.

INPUTS   slides/{slide}/{counts.h5ad, clusters.parquet, markers.parquet, labels.parquet, programs.parquet}, config/markers.tsv; truth.parquet of synthetic slides
OUTPUTS  slides/{slide}/{proposals.tsv, ablation.parquet}
"""

LANGUAGE_MODEL = cfg.config.labeling.cluster_annotator == "llm-score"
COMPARED_MODEL = bool(cfg.config.labeling.model)


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
        code=code_version("proposals.propose"),
    message:
        "Proposing labels of {wildcards.slide}'s clusters."
    script:
        "../scripts/propose_labels.py"


rule compare_annotators:
    input:
        **rules.propose_labels.input,
        truth=lambda w: (
            f"resources/synthetic/{w.slide}/truth.parquet"
            if w.slide in PLANTED
            else []
        ),
    output:
        comparison="<results>/slides/{slide}/ablation.parquet",
    log:
        "<logs>/compare_annotators/{slide}.log",
    benchmark:
        "<benchmarks>/compare_annotators/{slide}.tsv"
    wildcard_constraints:
        slide=cfg.pattern("xenium", "synthetic"),
    threads: cfg.config.compute.threads if COMPARED_MODEL else 1
    resources:
        mem_mb=lambda w, attempt: (12000 if COMPARED_MODEL else 4000) * attempt,
        runtime=1440 if COMPARED_MODEL else 30,
    params:
        organ=lambda w: cfg.slides[w.slide].organ,
        config=cfg.config.labeling.model_dump(include={"model"}),
        code=code_version("proposals.ablation"),
    message:
        "Comparing annotators and evidence on {wildcards.slide}'s clusters."
    script:
        "../scripts/compare_annotators.py"
