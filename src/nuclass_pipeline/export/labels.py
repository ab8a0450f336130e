"""The labels of a slide for other programs: a CSV for spreadsheets, and an AnnData for scanpy."""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from nuclass_pipeline import __version__
from nuclass_pipeline.expression.counts import match_cells, read_counts
from nuclass_pipeline.io import quote_table, read_table, whole_files
from nuclass_pipeline.knowledge.cell_types import HIERARCHY
from nuclass_pipeline.schemas import ANY_CELLS, CLUSTERS, DOMAINS, LABEL_EXPORT, LABELS
from nuclass_pipeline.vocabulary import CLASSES, UNRESOLVED, natural_key

ONTOLOGY = {name: HIERARCHY.nodes[name].cl_id for name in HIERARCHY.types}
"""Cell type → id in the Cell Ontology."""


def export_labels(
    *,
    counts: Path,
    cells: Path,
    clusters: Path,
    domains: Path | None,
    labels: Path,
    run: str,
    slide: str,
    organ: str,
    labels_csv: Path,
    labels_h5ad: Path,
) -> None:
    """Write the label of each cell of a slide with its place, cluster and domain, and the same with the counts.

    Parameters
    ----------
    counts
        `counts.h5ad`: raw counts, cells × genes.
    cells, clusters, domains, labels
        Tables `ANY_CELLS`, `CLUSTERS`, `DOMAINS` and `LABELS` of the same cells. Cells without coordinates have no domains.
    run, slide, organ
        Names that are kept in the AnnData, under `uns["nuclass"]`.
    labels_csv
        Columns of `LABEL_EXPORT`, comma separated, rows in the order of `counts`.
    labels_h5ad
        AnnData: `X` has raw counts, `obs` the columns of `LABEL_EXPORT`, `obsm["spatial"]` centroids in µm where there are any,
        `obsm["X_umap"]` the map, and `obsm["X_pca"]` the principal components.

    Raises
    ------
    UserError
        If an input is missing or broken, or a cell has no row in a table.
    """
    slide_counts = read_counts(counts)
    names = slide_counts.obs_names
    places, groups, named = (
        match_cells(read_table(path, schema), names, path) for path, schema in ((cells, ANY_CELLS), (clusters, CLUSTERS), (labels, LABELS))
    )
    domain = match_cells(read_table(domains, DOMAINS), names, domains)["domain"] if domains else None
    further = {"x_um": places["x_um"], "y_um": places["y_um"], "domain": domain, "cl_id": named["label"].map(ONTOLOGY)}
    frame = named.assign(**further)[[column.name for column in LABEL_EXPORT.columns]]
    maps = {"X_umap": groups[["umap_1", "umap_2"]].to_numpy(float), "X_pca": groups.filter(regex=r"^pc_\d+$").to_numpy(np.float32)}
    spatial = places[["x_um", "y_um"]].to_numpy(float)
    LABEL_EXPORT.check(frame, labels_csv)
    exported = ad.AnnData(
        X=slide_counts.X,
        obs=_categorical(frame).set_index("cell_id"),
        var=slide_counts.var,
        obsm=({} if np.isnan(spatial).all() else {"spatial": spatial}) | maps,
        uns={"nuclass": {"run": run, "slide": slide, "organ": organ, "version": __version__}},
    )
    with whole_files(labels_csv, labels_h5ad) as (csv_partial, h5ad_partial):
        quote_table(frame).to_csv(csv_partial, index=False)
        # gzip, because readers in R know no lzf.
        exported.write_h5ad(h5ad_partial, compression="gzip")


def _categorical(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with its text as categories, in the order of plots: classes as elsewhere, and clusters by number."""
    order = {name: rank for rank, name in enumerate((*CLASSES, UNRESOLVED))}
    texts = [column.name for column in LABEL_EXPORT.columns if column.kind == "text" and column.name != "cell_id"]
    columns = {}
    for name in texts:
        found = sorted(frame[name].dropna().unique(), key=lambda value: (order.get(value, len(order)), natural_key(value)))
        columns[name] = pd.Categorical(frame[name], categories=found)
    return frame.assign(**columns)
