"""`nuclass score-labels` and `nuclass build-markers`: labels without a run."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from nuclass_pipeline.cli.common import console, known_organ, shipped_table


def score_labels(
    counts: Annotated[Path, typer.Option(help="CSV: cell_id, and a column of raw counts per gene")],
    cells: Annotated[Path, typer.Option(help="CSV: cell_id, label")],
    lineages: Annotated[Path, typer.Option(help="tab-separated: label, lineage; labels without lineage are not scored")],
    organ: Annotated[str, typer.Option(help="organ of the tissue")],
    json: Annotated[Path | None, typer.Option(help="where to write the scores")] = None,
    markers: Annotated[Path | None, typer.Option(help="marker table, if not that of the pipeline")] = None,
    seed: Annotated[int, typer.Option(help="seed of the principal components and of the simulated doublets")] = 0,
) -> None:
    """Label published cells by the shipped defaults and compare with their labels, lineage by lineage."""
    from nuclass_pipeline.config.expression import ClusteringConfig
    from nuclass_pipeline.config.labeling import LabelingConfig
    from nuclass_pipeline.io import write_json
    from nuclass_pipeline.labeling.published import score_counts

    clustering, labeling = ClusteringConfig(seed=seed), LabelingConfig(seed=seed)
    knowledge = markers or shipped_table("markers.tsv")
    scores = score_counts(
        counts=counts, cells=cells, lineages=lineages, organ=organ, knowledge=knowledge, clustering=clustering, labeling=labeling
    )
    table = Table("score", "value", box=None)
    for name, value in scores.items():
        for key, single in value.items() if isinstance(value, dict) else [("", value)]:
            table.add_row(f"{name} {key}".strip(), f"{single:.3f}" if isinstance(single, float) else str(single))
    console.print(table)
    if json:
        write_json(scores, json)


def build_markers(
    organ: Annotated[str, typer.Option(help="organ of the tissue")],
    output: Annotated[Path, typer.Option(help="marker table to write, for labeling.markers of a run file")],
    panglao: Annotated[Path | None, typer.Option(help="PanglaoDB_markers_*.tsv.gz")] = None,
    cellmarker: Annotated[Path | None, typer.Option(help="Cell_marker_Human.xlsx, or the same as CSV")] = None,
    panel: Annotated[list[Path] | None, typer.Option(help="10x panel list with annotations; may be repeated")] = None,
    hgnc: Annotated[Path | None, typer.Option(help="hgnc_complete_set.txt: previous and alias symbols")] = None,
    own: Annotated[Path | None, typer.Option(help="marker table to start from, if not that of the pipeline")] = None,
) -> None:
    """Join the marker table with sources that you have downloaded; their licences apply to the result."""
    from nuclass_pipeline.knowledge.sources.build import build_markers as build

    own = own or shipped_table("markers.tsv")
    build(own=own, organ=known_organ(organ), output=output, panglao=panglao, cellmarker=cellmarker, panels=panel or (), hgnc=hgnc)
    console.print(output)
