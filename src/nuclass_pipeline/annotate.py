"""Labels of the cells of an AnnData object, from Python."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from nuclass_pipeline.cli.common import known_organ, shipped_table
from nuclass_pipeline.cli.label_steps import Task, check_genes, cluster, label_each
from nuclass_pipeline.data.tables.annotated import read_in_memory
from nuclass_pipeline.data.tables.count_table import NO_PLACES
from nuclass_pipeline.data.tables.stage import write_cells
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.export.labels import ONTOLOGY
from nuclass_pipeline.io import quote_table, read_warnings
from nuclass_pipeline.io.tables import read_table
from nuclass_pipeline.schemas import CLUSTERS, LABELS

if TYPE_CHECKING:
    from anndata import AnnData

COLUMNS = ("label", "lineage", "confidence", "reason", "cluster")


def label_anndata(
    adata: "AnnData",
    organ: str,
    *,
    markers: Path | str | None = None,
    clusters: str | None = None,
    seed: int = 0,
    copy: bool = True,
) -> "AnnData":
    """Return cells with their labels, from raw counts; the labels are those of `nuclass label`.

    Parameters
    ----------
    adata
        Cells × genes, named by human symbols. Raw counts are in `layers["counts"]`, `X` or `raw`. Coordinates are not used.
    organ
        One of `ORGANS`.
    markers
        Marker table; None for that of the pipeline.
    clusters
        Column of `obs` with clusters of your own; None for Leiden's.
    seed
        Seed of clusters and simulated doublets.
    copy
        Whether the labels are added to a copy.

    Returns
    -------
    The cells, with `label`, `cl_id`, `lineage`, `confidence`, `reason` and `cluster` in `obs`, `X_pca_nuclass` and `X_umap_nuclass` in
    `obsm`, which are empty (NaN) where a cell fails quality control, and the warnings in `uns["nuclass"]`. A column of the same name is
    replaced.

    Raises
    ------
    UserError
        If the organ is unknown, nothing holds counts, a name occurs twice, or the genes are not those of the marker table.
    """
    if clusters is not None and clusters not in adata.obs:
        problem = f"no such column; found {', '.join(map(str, adata.obs.columns)) or 'none'}"
        raise UserError("adata", f"obs[{clusters!r}]", problem, "Name one of them, or none.")
    with tempfile.TemporaryDirectory() as folder:
        table = Path(markers) if markers else shipped_table("markers.tsv")
        task = _task(Path(folder), known_organ(organ), table, seed, bool(clusters))
        write_cells(read_in_memory(adata), task.files["cells"], task.files["counts"])
        check_genes(task)
        if task.clusters:
            given = adata.obs[clusters].astype(object).where(adata.obs[clusters].notna(), "")
            quote_table(pd.DataFrame({"cell_id": adata.obs_names, "cluster": given.to_numpy()})).to_csv(task.clusters, index=False)
        cluster(task)
        label_each(task)
        return _add(adata.copy() if copy else adata, task)


def _task(folder: Path, organ: str, markers: Path, seed: int, by_hand: bool) -> Task:
    names = {"cells": ".parquet", "counts": ".h5ad", "clusters": ".parquet", "clustering": ".json", "labels": ".parquet"}
    files = {name: folder / f"{name}{ending}" for name, ending in names.items()}
    own = folder / "own.csv" if by_hand else None
    return Task(Path("adata"), "adata", organ, markers, None, seed, files, clusters=own, cluster_column="cluster" if own else None)


def _add(cells: "AnnData", task: Task) -> "AnnData":
    found, groups = read_table(task.files["labels"], LABELS), read_table(task.files["clusters"], CLUSTERS)
    for name in COLUMNS:
        cells.obs[name] = found[name].to_numpy()
    cells.obs["cl_id"] = found["label"].map(ONTOLOGY).to_numpy()
    cells.obsm["X_pca_nuclass"] = groups.filter(regex=r"^pc_\d+$").to_numpy(np.float32)
    cells.obsm["X_umap_nuclass"] = groups[["umap_1", "umap_2"]].to_numpy(np.float32)
    warnings = [text for name in ("cells", "clusters", "labels") for text in read_warnings(task.files[name]) if text != NO_PLACES]
    cells.uns["nuclass"] = {"organ": task.organ, "warnings": warnings}
    return cells
