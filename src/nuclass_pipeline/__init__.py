"""Per-cell classification of H&E, trained on labels from Xenium.

The workflow runs the pipeline; this package is the code behind its rules. From Python:

    >>> import nuclass_pipeline as nuclass
    >>> run = nuclass.open_run("results/demo")
    >>> run.predictions("demo-lung-2")            # a table with one row per cell
    >>> run.classifier().classify(crops, contexts, organ="lung")
    >>> nuclass.label(adata, organ="lung")            # labels from raw counts, without a run

`open_run` returns a `Results`; `UserError` is raised for mistakes in the input. docs/python.md has worked examples.
"""

import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Results", "UserError", "__version__", "label", "open_run"]

# OpenMP reads this once, when the first library loads it. Its default, spinning, makes small models a hundred times
# slower whenever another process uses the same core.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from nuclass_pipeline.annotate import label_anndata as label
    from nuclass_pipeline.errors import UserError
    from nuclass_pipeline.results import Results, open_run


def __getattr__(name: str) -> Any:
    # On first use, because every cluster job parses the Snakefile, which imports this package.
    if name in {"Results", "open_run"}:
        from nuclass_pipeline import results

        return getattr(results, name)
    if name == "label":
        from nuclass_pipeline.annotate import label_anndata

        return label_anndata
    if name == "UserError":
        from nuclass_pipeline.errors import UserError

        return UserError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
