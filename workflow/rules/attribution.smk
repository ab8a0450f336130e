"""Attribution: where the paths look, for a few held-out cells, and where the gate trusts which.

INPUTS   slides/{slide}/patches_*.h5, models/{local,global}/seed-{seed}/best.ckpt
OUTPUTS  metrics/attribution/seed-{seed}/{slide}.parquet, figures/{attribution,gate_map}.{pdf,png}
"""


rule explain_cells:
    input:
        patches="<results>/slides/{slide}/patches_224x224.h5",
        contexts="<results>/slides/{slide}/patches_1024x1024.h5",
        labels="<results>/slides/{slide}/labels.parquet",
        split="<results>/slides/{slide}/split.parquet",
        local=rules.train_local.output.checkpoint,
        global_=rules.train_global.output.checkpoint,
    output:
        output="<results>/metrics/attribution/seed-{seed}/{slide}.parquet",
    log:
        "<logs>/explain_cells/{slide}.seed-{seed}.log",
    benchmark:
        "<benchmarks>/explain_cells/{slide}.seed-{seed}.tsv"
    threads: 2
    resources:
        gpu=cfg.config.compute.gpu,
        mem_mb=lambda w, attempt: 8000 * attempt,
        runtime=60,
    params:
        organ=lambda w: cfg.slides[w.slide].organ,
        cells=cfg.config.evaluation.explained_cells,
        code=code_version("evaluate.attribution"),
    message:
        "Explaining cells of {wildcards.slide}, seed {wildcards.seed}."
    script:
        "../scripts/explain_cells.py"


use rule draw_figure as figure_attribution with:
    input:
        attribution=expand(
            rules.explain_cells.output.output, slide=HELDOUT, seed=SEEDS[0]
        ),
    output:
        pdf=report(
            "<results>/figures/attribution.pdf",
            category="Figures",
            caption="../report/attribution.rst",
        ),
        png="<results>/figures/attribution.png",
    log:
        "<logs>/figure_attribution.log",
    params:
        options={},
        code=code_version("figures.attribution"),


use rule draw_figure as figure_gate_map with:
    input:
        **SHOWN,
    output:
        pdf=report(
            "<results>/figures/gate_map.pdf",
            category="Figures",
            caption="../report/gate_map.rst",
        ),
        png="<results>/figures/gate_map.png",
    log:
        "<logs>/figure_gate_map.log",
    params:
        options={"slides": HELDOUT},
        code=code_version("figures.gate_map"),
