"""Labels: a label or Unresolved for every cell; a proposed label for every cluster.

INPUTS   slides/{slide}/{counts.h5ad, clusters.parquet, markers.parquet, programs.parquet}, config/markers.tsv
         config/annotation/{slide}.{tsv,csv,h5ad,names.tsv}, config/labels.tsv; resources/synthetic/{slide}/truth.parquet
OUTPUTS  slides/{slide}/{labels.parquet, proposals.tsv, ablation.parquet}, variants/{variant}/slides/{slide}/labels.parquet
"""


rule label_cells:
    input:
        counts=files.counts,
        clusters=files.clusters,
        knowledge=ancient(run.config.labeling.markers),
        edits=lambda w: ancient(run.annotation(w.slide, "tsv")),
        provided=lambda w: ancient(run.annotation(w.slide, "csv")),
        label_map=lambda w: ancient(run.label_map(w.slide)),
        names=lambda w: ancient(run.names(w.slide)),
    output:
        labels=files.labels,
    log:
        "<logs>/label_cells/{slide}.log",
    benchmark:
        "<benchmarks>/label_cells/{slide}.tsv"
    wildcard_constraints:
        slide=run.pattern("xenium", "synthetic"),
    threads: 1
    resources:
        mem_mb=run.mem_mb("label_cells"),
        runtime=60,
    params:
        organ=lambda w: run.slides[w.slide].organ,
        classes=list(run.config.study.classes),
        config=run.section("labeling"),
        label_column=lambda w: run.label_column(w.slide),
        content=lambda w: content(
            run.config.labeling.markers,
            run.annotation(w.slide, "tsv"),
            run.annotation(w.slide, "csv"),
            run.label_map(w.slide),
            run.names(w.slide),
        ),
        code=code_version("labeling.stage", run.annotator_module),
    message:
        "Labelling the cells of {wildcards.slide}."
    script:
        "../scripts/label_cells.py"


use rule label_cells as label_variant with:
    output:
        labels=files.variant_labels,
    log:
        "<logs>/label_variant/{slide}.{variant}.log",
    benchmark:
        "<benchmarks>/label_variant/{slide}.{variant}.tsv"
    params:
        config=lambda w: run.variants[w.variant].section("labeling"),
        code=lambda w: code_version(
            "labeling.stage", run.variants[w.variant].annotator_module
        ),
    message:
        "Labelling the cells of {wildcards.slide}, {wildcards.variant}."


rule propose_labels:
    input:
        counts=files.counts,
        clusters=files.clusters,
        markers=files.markers,
        labels=files.labels,
        knowledge=ancient(run.config.labeling.markers),
        programs=files.programs if run.config.programs.library else [],
    output:
        proposals=files.proposals,
    log:
        "<logs>/propose_labels/{slide}.log",
    benchmark:
        "<benchmarks>/propose_labels/{slide}.tsv"
    wildcard_constraints:
        slide=run.pattern("xenium", "synthetic"),
    threads: run.config.compute.threads if run.proposes_by_model else 1
    resources:
        mem_mb=run.mem_mb("propose_labels"),
        runtime=120 if run.proposes_by_model else 30,
    params:
        organ=lambda w: run.slides[w.slide].organ,
        config=run.section("proposals"),
        content=content(run.config.labeling.markers),
        code=code_version("proposals.propose"),
    message:
        "Proposing labels of {wildcards.slide}'s clusters."
    script:
        "../scripts/propose_labels.py"


rule compare_annotators:
    input:
        **rules.propose_labels.input,
        truth=lambda w: SYNTHETIC_TRUTH if w.slide in run.slides_with_truth else [],
    output:
        ablation=files.ablation,
    log:
        "<logs>/compare_annotators/{slide}.log",
    benchmark:
        "<benchmarks>/compare_annotators/{slide}.tsv"
    wildcard_constraints:
        slide=run.pattern("xenium", "synthetic"),
    threads: run.config.compute.threads if run.config.proposals.model else 1
    resources:
        mem_mb=run.mem_mb("compare_annotators"),
        runtime=1440 if run.config.proposals.model else 30,
    params:
        organ=lambda w: run.slides[w.slide].organ,
        config=run.section("proposals"),
        content=content(run.config.labeling.markers),
        code=code_version("proposals.ablation"),
    message:
        "Comparing annotators and evidence on {wildcards.slide}'s clusters."
    script:
        "../scripts/compare_annotators.py"
