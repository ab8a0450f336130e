"""Tables: one rule each.

INPUTS   metrics/*.parquet
OUTPUTS  tables/*.tsv, tables/*.tex
"""


rule write_table:
    log:
        "<logs>/write_table.log",
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
    message:
        "Writing {rule}."
    script:
        "../scripts/write_table.py"


use rule write_table as table_cohort with:
    input:
        cohort=rules.summarize_cohort.output.output,
    output:
        tsv="<results>/tables/cohort.tsv",
        tex="<results>/tables/cohort.tex",
    log:
        "<logs>/table_cohort.log",
    params:
        code=code_version("tables.cohort"),


use rule write_table as table_heldout with:
    input:
        heldout=rules.score_predictions.output.output,
    output:
        tsv="<results>/tables/heldout.tsv",
        tex="<results>/tables/heldout.tex",
    log:
        "<logs>/table_heldout.log",
    params:
        code=code_version("tables.heldout"),
