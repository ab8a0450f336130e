"""Figures: one rule each, fed by metrics/ and predictions/ alone.

INPUTS   metrics/*.parquet, predictions/{model}/seed-{seed}/{slide}.parquet
OUTPUTS  figures/*.pdf, figures/*.png
"""

SHOWN = {
    "local": expand(PREDICTIONS, model="local", seed=SEEDS[0], slide=HELDOUT),
    "global_": expand(PREDICTIONS, model="global", seed=SEEDS[0], slide=HELDOUT),
    "gate": expand(PREDICTIONS, model="gate", seed=SEEDS[0], slide=HELDOUT),
}


rule draw_figure:
    log:
        "<logs>/draw_figure.log",
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        options={},
    message:
        "Drawing {rule}."
    script:
        "../scripts/draw_figure.py"


use rule draw_figure as figure_composition with:
    input:
        cohort=rules.summarize_cohort.output.output,
    output:
        pdf=report(
            "<results>/figures/composition.pdf",
            category="Figures",
            caption="../report/composition.rst",
        ),
        png="<results>/figures/composition.png",
    log:
        "<logs>/figure_composition.log",
    params:
        options={},
        code=code_version("figures.composition"),


use rule draw_figure as figure_registration with:
    input:
        registration=rules.summarize_registration.output.output,
    output:
        pdf=report(
            "<results>/figures/registration.pdf",
            category="Figures",
            caption="../report/registration.rst",
        ),
        png="<results>/figures/registration.png",
    log:
        "<logs>/figure_registration.log",
    params:
        options={},
        code=code_version("figures.registration"),


use rule draw_figure as figure_confusion with:
    input:
        **SHOWN,
    output:
        pdf=report(
            "<results>/figures/confusion.pdf",
            category="Figures",
            caption="../report/confusion.rst",
        ),
        png="<results>/figures/confusion.png",
    log:
        "<logs>/figure_confusion.log",
    params:
        options={},
        code=code_version("figures.confusion"),


use rule draw_figure as figure_reliability with:
    input:
        reliability=rules.score_predictions.output.reliability,
        heldout=rules.score_predictions.output.output,
    output:
        pdf=report(
            "<results>/figures/reliability.pdf",
            category="Figures",
            caption="../report/reliability.rst",
        ),
        png="<results>/figures/reliability.png",
    log:
        "<logs>/figure_reliability.log",
    params:
        options={},
        code=code_version("figures.reliability"),


use rule draw_figure as figure_complementarity with:
    input:
        complementarity=rules.compare_paths.output.output,
    output:
        pdf=report(
            "<results>/figures/complementarity.pdf",
            category="Figures",
            caption="../report/complementarity.rst",
        ),
        png="<results>/figures/complementarity.png",
    log:
        "<logs>/figure_complementarity.log",
    params:
        options={},
        code=code_version("figures.complementarity"),
