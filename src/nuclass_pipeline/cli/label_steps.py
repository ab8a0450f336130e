"""The steps of `nuclass label`: the stages of the workflow with their default settings, in the order of their inputs."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nuclass_pipeline.cli.common import REFERENCE_CSV, REFERENCE_JSON, is_bundle, shipped_table
from nuclass_pipeline.config.expression import ClusteringConfig, DomainsConfig
from nuclass_pipeline.config.labeling import LabelingConfig, ProposalsConfig
from nuclass_pipeline.data.tables.stage import read_tables
from nuclass_pipeline.data.xenium.archives import unpack_bundle
from nuclass_pipeline.data.xenium.read import read_cells
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.export.labels import export_labels
from nuclass_pipeline.expression.clustering import cluster_cells
from nuclass_pipeline.expression.counts import read_counts
from nuclass_pipeline.expression.domains.stage import find_domains
from nuclass_pipeline.expression.given_clusters import read_given_clusters
from nuclass_pipeline.expression.markers import rank_markers
from nuclass_pipeline.figures.draw import draw_figure
from nuclass_pipeline.io import read_parquet
from nuclass_pipeline.knowledge.coverage import check_panel
from nuclass_pipeline.knowledge.markers import read_markers, restrict_to_panel
from nuclass_pipeline.labeling.overrides import Provided, apply_provided
from nuclass_pipeline.labeling.reference import check_reference, label_by_reference
from nuclass_pipeline.labeling.stage import label_cells
from nuclass_pipeline.proposals.propose import propose_labels
from nuclass_pipeline.schemas import empty_labels
from nuclass_pipeline.vocabulary import CLASSES

RUN = "label"
"""Name of the run in tables that have one."""


@dataclass(frozen=True)
class Task:
    """What is labelled, and where the results go.

    Attributes
    ----------
    source
        Folder of the Xenium output, an archive of it, or what `read_tables` reads.
    slide, organ
        Name of the slide in the results, and its organ.
    markers
        Marker table.
    annotation
        A person's edits of clusters (tsv) or labels of cells (csv or h5ad), or None.
    seed
        Seed of clusters, domains and simulated doublets.
    files
        Name of a result in docs/outputs.md → its path.
    label_column, names
        Column of the labels in `annotation`, and the table that explains their names; None for the usual ones.
    clusters, cluster_column
        A person's clusters, and their column.
    places
        Table of cells with coordinates, for tables.
    reference, reference_column
        A labelled AnnData file, and the column of its labels.
    """

    source: Path
    slide: str
    organ: str
    markers: Path
    annotation: Path | None
    seed: int
    files: dict[str, Path]
    label_column: str | None = None
    names: Path | None = None
    clusters: Path | None = None
    cluster_column: str | None = None
    places: Path | None = None
    reference: Path | None = None
    reference_column: str | None = None

    def take(self, *names: str) -> dict[str, Path]:
        """Return the paths of some results by their names, which are those of the stages' arguments."""
        return {name: self.files[name] for name in names}

    @property
    def provided(self) -> Path | None:
        """A person's labels of cells, or None."""
        return self.annotation if self.annotation and self.annotation.suffix != ".tsv" else None

    @property
    def by_hand(self) -> Provided | None:
        """The same, with what explains their names."""
        return Provided(self.provided, shipped_table("labels.tsv"), self.label_column, self.names) if self.provided else None

    @property
    def clustering(self) -> ClusteringConfig:
        """Settings of clusters and their markers."""
        return ClusteringConfig(seed=self.seed)


def read(task: Task) -> None:
    """Read the cells, and check that their panel can label them."""
    if not is_bundle(task.source):
        read_tables(source=task.source, places=task.places, **task.take("cells", "counts"))
    else:
        _read_bundle(task)
    check_genes(task)
    check_by_hand(task)


def check_by_hand(task: Task) -> None:
    """Check that a person's labels and clusters are of these cells, that their names are known, and that a reference has labels."""
    # Here too, because the stages that read them come after the clustering, or take long.
    ids = read_parquet(task.files["cells"], ["cell_id"])["cell_id"]
    if provided := task.by_hand:
        apply_provided(empty_labels(ids), provided)
    if task.clusters:
        read_given_clusters(task.clusters, task.cluster_column, ids.to_numpy(str), np.ones(len(ids), bool))
    if task.reference:
        check_reference(task.reference, task.reference_column)


def check_genes(task: Task) -> None:
    """Check that the genes of the counts can label cells, unless a person does."""
    # Here too, because `label_cells` comes after the clustering, which takes longest.
    if task.provided:
        return
    genes = list(read_counts(task.files["counts"]).var_names)
    panel = restrict_to_panel(read_markers(task.markers), task.organ, genes)
    check_panel(panel, task.organ, genes, task.source)
    if not panel.types:
        problem = f"none of its {len(genes)} genes, such as {genes[0]}, is a marker of a cell type of the {task.organ}"
        raise UserError(task.source, "genes", problem, "Use a table of cells × genes with symbols, or name other markers: --markers FILE.")


def _read_bundle(task: Task) -> None:
    # Not beside the results for good, because nothing else reads the bundle.
    with tempfile.TemporaryDirectory(dir=task.files["cells"].parent) as unpacked:
        folder = Path(unpacked) if task.source.is_file() else task.source
        if task.source.is_file():
            unpack_bundle(archive=task.source, manifest=folder / "experiment.xenium")
        read_cells(manifest=folder / "experiment.xenium", **task.take("cells", "counts"))


def has_places(task: Task) -> bool:
    """Return whether the cells have coordinates."""
    return bool(read_parquet(task.files["cells"], ["x_um"])["x_um"].notna().any())


def cluster(task: Task) -> None:
    """Cluster the cells by expression."""
    cluster_cells(
        counts=task.files["counts"],
        clusters=task.files["clusters"],
        stability=task.files["clustering"],
        given=task.clusters,
        column=task.cluster_column,
        config=task.clustering,
        threads=1,
    )


def rank(task: Task) -> None:
    """Rank the markers of each cluster."""
    cells = task.files["cells"] if has_places(task) else None
    rank_markers(**task.take("counts", "clusters", "markers", "gene_scores"), cells=cells, config=task.clustering)


def find(task: Task) -> None:
    """Find the spatial domains, if the cells have coordinates."""
    if not has_places(task):
        return
    find_domains(
        **task.take("counts", "cells", "domains"),
        scores=task.files["domain_scores"],
        config=DomainsConfig(seed=task.seed),
        run=RUN,
        slide=task.slide,
        organ=task.organ,
    )


def label_each(task: Task) -> None:
    """Label each cell."""
    label_cells(
        counts=task.files["counts"],
        clusters=task.files["clusters"],
        labels=task.files["labels"],
        knowledge=task.markers,
        edits=None if task.provided else task.annotation,
        provided=task.provided,
        label_map=shipped_table("labels.tsv") if task.provided else None,
        names=task.names,
        label_column=task.label_column,
        organ=task.organ,
        classes=CLASSES,
        config=LabelingConfig(seed=task.seed),
    )
    if task.reference:
        label_by_reference(
            counts=task.files["counts"],
            labels=task.files["labels"],
            reference=task.reference,
            column=task.reference_column,
            label_map=shipped_table("labels.tsv"),
            seed=task.seed,
            probabilities=task.files["labels"].with_name(REFERENCE_CSV),
            agreement=task.files["labels"].with_name(REFERENCE_JSON),
        )


def propose_each(task: Task) -> None:
    """Propose a label for each cluster."""
    evidence = task.take("counts", "clusters", "markers", "labels", "proposals")
    propose_labels(**evidence, knowledge=task.markers, organ=task.organ, config=ProposalsConfig(), threads=1)


def draw_report(task: Task) -> None:
    """Draw the label report."""
    tables, pictures = task.take("cells", "clusters", "markers", "labels"), list(task.take("label_report", "label_report_png").values())
    draw_figure(name="labels", inputs=tables, options={"slide": task.slide}, outputs=pictures)


def export(task: Task) -> None:
    """Write the labels as CSV and AnnData."""
    files = task.take("counts", "cells", "clusters", "labels", "labels_csv", "labels_h5ad")
    export_labels(**files, domains=task.files["domains"] if has_places(task) else None, run=RUN, slide=task.slide, organ=task.organ)


STEPS: tuple[tuple[str, Callable[[Task], None]], ...] = (
    ("reading the cells", read),
    ("clustering the cells", cluster),
    ("ranking the markers of clusters", rank),
    ("finding spatial domains", find),
    ("labelling the cells", label_each),
    ("proposing labels of clusters", propose_each),
    ("drawing the label report", draw_report),
    ("writing CSV and AnnData", export),
)
"""What the screen shows → the step."""
