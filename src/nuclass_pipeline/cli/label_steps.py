"""The steps of `nuclass label`: the stages of the workflow with their default settings, in the order of their inputs."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nuclass_pipeline.cli.common import shipped_table
from nuclass_pipeline.config.expression import ClusteringConfig, DomainsConfig
from nuclass_pipeline.config.labeling import LabelingConfig, ProposalsConfig
from nuclass_pipeline.data.xenium.archives import unpack_bundle
from nuclass_pipeline.data.xenium.read import read_cells
from nuclass_pipeline.export.labels import export_labels
from nuclass_pipeline.expression.clustering import cluster_cells
from nuclass_pipeline.expression.counts import read_counts
from nuclass_pipeline.expression.domains.stage import find_domains
from nuclass_pipeline.expression.markers import rank_markers
from nuclass_pipeline.figures.draw import draw_figure
from nuclass_pipeline.knowledge.coverage import check_panel
from nuclass_pipeline.knowledge.markers import read_markers, restrict_to_panel
from nuclass_pipeline.labeling.stage import label_cells
from nuclass_pipeline.proposals.propose import propose_labels
from nuclass_pipeline.vocabulary import CLASSES

RUN = "label"
"""Name of the run in tables that have one."""


@dataclass(frozen=True)
class Task:
    """What is labelled, and where the results go.

    Attributes
    ----------
    bundle
        Folder of the Xenium output, or an archive of it.
    slide, organ
        Name of the slide in the results, and its organ.
    markers
        Marker table.
    annotation
        A person's edits of clusters (tsv) or labels of cells (csv), or None.
    seed
        Seed of clusters, domains and simulated doublets.
    files
        Name of a result in docs/outputs.md → its path.
    """

    bundle: Path
    slide: str
    organ: str
    markers: Path
    annotation: Path | None
    seed: int
    files: dict[str, Path]

    def take(self, *names: str) -> dict[str, Path]:
        """Return the paths of some results by their names, which are those of the stages' arguments."""
        return {name: self.files[name] for name in names}

    @property
    def provided(self) -> Path | None:
        """A person's labels of cells, or None."""
        return self.annotation if self.annotation and self.annotation.suffix == ".csv" else None

    @property
    def clustering(self) -> ClusteringConfig:
        """Settings of clusters and their markers."""
        return ClusteringConfig(seed=self.seed)


def read(task: Task) -> None:
    """Read the cells of the bundle, and check that its panel can label cells."""
    # Not beside the results for good, because nothing else reads the bundle.
    with tempfile.TemporaryDirectory(dir=task.files["cells"].parent) as unpacked:
        folder = Path(unpacked) if task.bundle.is_file() else task.bundle
        if task.bundle.is_file():
            unpack_bundle(archive=task.bundle, manifest=folder / "experiment.xenium")
        read_cells(manifest=folder / "experiment.xenium", **task.take("cells", "counts"))
    # Here too, because `label_cells` comes after the clustering, which takes longest.
    if not task.provided:
        genes = list(read_counts(task.files["counts"]).var_names)
        check_panel(restrict_to_panel(read_markers(task.markers), task.organ, genes), task.organ, genes, task.bundle)


def cluster(task: Task) -> None:
    """Cluster the cells by expression."""
    cluster_cells(**task.take("counts", "clusters"), stability=task.files["clustering"], config=task.clustering, threads=1)


def rank(task: Task) -> None:
    """Rank the markers of each cluster."""
    rank_markers(**task.take("counts", "clusters", "cells", "markers", "gene_scores"), config=task.clustering)


def find(task: Task) -> None:
    """Find the spatial domains."""
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
        **task.take("counts", "clusters", "labels"),
        knowledge=task.markers,
        edits=None if task.provided else task.annotation,
        provided=task.provided,
        label_map=shipped_table("labels.tsv") if task.provided else None,
        organ=task.organ,
        classes=CLASSES,
        config=LabelingConfig(seed=task.seed),
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
    files = task.take("counts", "cells", "clusters", "domains", "labels", "labels_csv", "labels_h5ad")
    export_labels(**files, run=RUN, slide=task.slide, organ=task.organ)


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
