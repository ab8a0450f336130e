"""Tables: one module each, built from tidy metrics. The list below says what each reads."""

from typing import TYPE_CHECKING

from nuclass_pipeline.errors import similar
from nuclass_pipeline.layout import files, of_base

if TYPE_CHECKING:
    from nuclass_pipeline.config.run import Run


def list_tables(run: "Run") -> dict[str, dict[str, str]]:
    """Return the tables of a run by name, in the order of the report, each with the arguments of `build` in its module.

    Raises
    ------
    UserError
        If the run file numbers a table that is not in the list.
    """
    tables: dict[str, dict[str, str]] = {
        "cohort": {"cohort": files.cohort_metrics},
        "heldout": {"heldout": of_base(files.heldout_metrics)},
        "variants": {"variants": files.variant_metrics},
    }
    if not run.config.variants:
        del tables["variants"]
    if not run.heldout_slides:
        del tables["heldout"]
    for number, name in run.config.tables.items():
        if name not in tables:
            problem = f"there is no table {name!r}{similar(name, tables)}"
            raise run.error(f"tables.{number}", problem, f"Use one of {', '.join(tables)}.")
    return tables
