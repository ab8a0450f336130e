"""Label report of one slide: maps of labels and confidence, composition, reasons of Unresolved cells, and markers of clusters."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.figures.pictures.tissue import drawing_order, marker_area, span, tissue_frame
from nuclass_pipeline.figures.style import (
    COLORS,
    FAINT,
    INK,
    SMALL_PT,
    explain_names,
    hide_frame,
    in_order,
    new_figure,
    percent,
    short_name,
)
from nuclass_pipeline.io import read_table
from nuclass_pipeline.schemas import ANY_CELLS, CLUSTERS, LABELS, MARKERS
from nuclass_pipeline.vocabulary import UNRESOLVED, natural_key

NO_REASON = "no reason given"
_MAP_IN = 2.0
# Not more, because the names of the genes would be smaller than 6 points.
_MAX_GENES, _MAX_PER_CLUSTER = 50, 4
_DOTS_IN, _LARGEST_DOT_PT = 5.0, 6.5


def draw(*, cells: Path, clusters: Path, markers: Path, labels: Path, slide: str) -> Figure:
    """Draw the label report of a slide.

    Parameters
    ----------
    cells, clusters, labels
        Tables of the same cells in the same order. Cells without UMAP coordinates are on the tissue map alone.
    markers
        Markers of the clusters; it may be empty.
    slide
        Name in the title.

    Raises
    ------
    UserError
        If there is no cell, the tables have different cells, or a label is not a class.
    """
    table, ranked = _join(cells, clusters, labels), read_table(markers, MARKERS)
    rows = _clusters(table)
    dots_in = 1.15 + 0.15 * max(len(rows), 3)
    figure = new_figure(2 * _MAP_IN + 1.5 + dots_in)
    figure.suptitle(_headline(slide, table["label"]), x=0.01, ha="left", fontsize=9, fontweight="bold")
    parts = figure.subfigures(2, 1, squeeze=False, height_ratios=[2 * _MAP_IN + 1.2, dots_in], hspace=0.02)
    upper, lower = parts.ravel()
    grid = upper.subplots(2, 3, width_ratios=[1, 1, 1])
    _maps(upper, grid, table)
    _bars(grid[0, 2], *_composition(table["label"]))
    grid[0, 2].set_xlabel(explain_names(table["label"]), loc="left", fontsize=SMALL_PT)
    _bars(grid[1, 2], *_abstentions(table))
    _dots(lower, ranked, rows, table["cluster"].nunique())
    return figure


def _join(cells: Path, clusters: Path, labels: Path) -> pd.DataFrame:
    """Join the tables by row and check that their cells are the same."""
    table = read_table(cells, ANY_CELLS, ["cell_id", "x_um", "y_um"])
    if table.empty:
        raise UserError(cells, "cell_id", "there is no cell to show", "Remove the slide from the study.")
    for path, schema, columns in (
        (clusters, CLUSTERS, ["umap_1", "umap_2", "cluster"]),
        (labels, LABELS, ["label", "confidence", "reason"]),
    ):
        other = read_table(path, schema, ["cell_id", *columns])
        if not other["cell_id"].astype(str).equals(table["cell_id"].astype(str)):
            raise UserError(path, "cell_id", f"its cells differ from those in {cells}", "Remove the file and run again.")
        table[columns] = other[columns]
    if unknown := sorted(set(table["label"]) - set(COLORS)):
        raise UserError(labels, "label", f"{unknown[0]!r} is not a class", "Map it to a class in config/labels.tsv.")
    return table


def _headline(slide: str, labels: "pd.Series[str]") -> str:
    share = 100 * (labels != UNRESOLVED).mean()
    return f"{slide}: {len(labels):,} cell{'s' * (len(labels) != 1)}, {share:.1f} % labelled"


def _maps(part: SubFigure, grid: NDArray[np.object_], table: pd.DataFrame) -> None:
    # Both may lack coordinates: cells of poor quality on the map, and all cells of a table without places on the tissue.
    on_map, on_tissue = (table.dropna(subset=names) for names in (["umap_1", "umap_2"], ["x_um", "y_um"]))
    for column, (name, cells, axes_names) in enumerate((("UMAP", on_map, ("umap_1", "umap_2")), ("Tissue", on_tissue, ("x_um", "y_um")))):
        shown = cells.iloc[drawing_order(cells["label"])]
        by_label, by_confidence = grid[:, column]
        _scatter(by_label, shown, axes_names, c=[COLORS[label] for label in shown["label"]])
        points = _scatter(by_confidence, shown, axes_names, c=shown["confidence"], cmap="cividis", norm=Normalize(0, 1))
        by_label.set_title(f"{name}, label", loc="left")
        by_confidence.set_title(f"{name}, confidence", loc="left")
    for axes in grid[:, 1] if len(on_tissue) else []:
        tissue_frame(axes, on_tissue)
    bar = part.colorbar(points, ax=list(grid[1, :2]), location="bottom", shrink=0.4, aspect=30, pad=0.02, panchor=False)
    bar.set_label("confidence of the best class, before abstention")
    bar.outline.set_visible(False)


def _scatter(axes: Axes, cells: pd.DataFrame, names: tuple[str, str], **color: Any) -> PathCollection:
    hide_frame(axes)
    if cells.empty:
        axes.text(0.5, 0.5, "no cell has coordinates here", transform=axes.transAxes, ha="center", va="center")
    x, y = cells[names[0]], cells[names[1]]
    # Smaller on the UMAP, because most of its panel is empty and its cells are crowded in islands.
    area = marker_area(span(x), span(y), len(cells), _MAP_IN) if names[0] == "x_um" else 0.3 * marker_area(1, 1, len(cells), _MAP_IN)
    return axes.scatter(x, y, s=area, linewidths=0, rasterized=True, **color)


def _composition(labels: "pd.Series[str]") -> tuple[str, dict[str, int], list[str], int]:
    counts = labels.value_counts()
    names = in_order(labels)
    return "Composition", {short_name(name): int(counts[name]) for name in names}, [COLORS[name] for name in names], len(labels)


def _abstentions(table: pd.DataFrame) -> tuple[str, dict[str, int], list[str], int]:
    without = table.loc[table["label"] == UNRESOLVED, "reason"].fillna(NO_REASON)
    counts = {str(reason): int(n) for reason, n in sorted(without.value_counts().items(), key=lambda item: (-item[1], item[0]))}
    return "Unresolved, and why", counts, [COLORS[UNRESOLVED]] * len(counts), len(table)


def _bars(axes: Axes, title: str, counts: dict[str, int], colors: Sequence[str], cells: int) -> None:
    axes.set_title(title, loc="left")
    if not counts:
        hide_frame(axes)
        axes.text(0, 0.98, "no cell", transform=axes.transAxes, va="top")
        return
    most = max(counts.values())
    axes.barh(range(len(counts)), list(counts.values()), height=0.75, color=list(colors))
    for row, n in enumerate(counts.values()):
        axes.annotate(f"{n:,} ({percent(n, cells)})", (n, row), (2, 0), textcoords="offset points", va="center", fontsize=SMALL_PT)
    # Room at the right for the numbers, and for at least ten rows, because few bars would be thick otherwise.
    axes.set(xlim=(0, 2.4 * most), ylim=(max(len(counts), 10) - 0.4, -0.6), xticks=[])
    axes.set_yticks(range(len(counts)), list(counts))
    axes.tick_params(axis="y", length=0, labelsize=SMALL_PT)
    axes.spines[:].set_visible(False)


def _clusters(table: pd.DataFrame) -> dict[str, str]:
    """Return cluster → name of its row, ordered by its most frequent label; Unresolved counts only if all its cells are.

    Of more clusters than the genes have room for, the largest are returned.
    """
    largest = table["cluster"].value_counts().index[:_MAX_GENES]
    named = table[table["cluster"].isin(largest)]
    found = []
    for cluster, labels in named["label"].groupby(named["cluster"]):
        counts = labels[labels != UNRESOLVED].value_counts() if (labels != UNRESOLVED).any() else labels.value_counts()
        label = in_order(counts[counts == counts.max()].index)[0]
        found.append(
            (list(COLORS).index(label), natural_key(str(cluster)), str(cluster), f"{short_name(label)} · {cluster} ({len(labels):,})")
        )
    return {cluster: name for _, _, cluster, name in sorted(found)}


def top_genes(markers: pd.DataFrame, clusters: Sequence[str]) -> list[str]:
    """Return the best markers of each cluster in turn, each gene once.

    Parameters
    ----------
    markers
        Markers of the clusters.
    clusters
        Clusters in the order of the rows. The more there are, the fewer genes each gets.
    """
    most = int(np.clip(_MAX_GENES // max(len(clusters), 1), 1, _MAX_PER_CLUSTER))
    best = markers[markers["rank"] <= most].sort_values("rank")
    return list(dict.fromkeys(gene for cluster in clusters for gene in best.loc[best["cluster"] == cluster, "gene"]))


def _dots(part: SubFigure, markers: pd.DataFrame, rows: dict[str, str], clusters: int) -> None:
    """Draw a dot where a gene is a marker of a cluster; for all other pairs the table has no values."""
    axes = part.subplots()
    shown = "each cluster" if len(rows) == clusters else f"the {len(rows)} largest of {clusters} clusters"
    axes.set_title(f"Markers of {shown}: most frequent label · cluster (cells)", loc="left")
    genes = top_genes(markers, list(rows))
    if not genes:
        hide_frame(axes)
        axes.text(0, 0.95, "no cluster has a marker", transform=axes.transAxes, va="top")
        return
    pairs = markers[markers["gene"].isin(genes) & markers["cluster"].isin(list(rows))]
    x, y = pairs["gene"].map(genes.index), pairs["cluster"].map(list(rows).index)
    pitch_pt = 72 * _DOTS_IN / len(genes)
    full_pt2 = min(_LARGEST_DOT_PT, 0.95 * pitch_pt) ** 2
    norm = Normalize(0, np.ceil(pairs["log2fc"].max()))
    style: dict[str, Any] = {"cmap": "viridis_r", "norm": norm, "linewidths": 0.3, "edgecolors": INK, "zorder": 3}
    points = axes.scatter(x, y, s=full_pt2 * pairs["fraction_in"], c=pairs["log2fc"], **style)
    _dot_axes(axes, genes, list(rows.values()), SMALL_PT)
    _dot_keys(part, axes, points, full_pt2)


def _dot_axes(axes: Axes, genes: Sequence[str], names: Sequence[str], size: float) -> None:
    axes.set_xticks(range(len(genes)), list(genes), rotation=90, fontsize=size)
    axes.set_yticks(range(len(names)), list(names), fontsize=SMALL_PT)
    axes.set(xlim=(-0.8, len(genes) - 0.2), ylim=(len(names) - 0.3, -0.7))
    axes.grid(color=FAINT, linewidth=0.3, zorder=0)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _dot_keys(part: SubFigure, axes: Axes, points: PathCollection, full_pt2: float) -> None:
    bar = part.colorbar(points, ax=axes, location="right", aspect=14, pad=0.01, fraction=0.03)
    bar.set_label("log2 fold change")
    bar.outline.set_visible(False)
    style: dict[str, Any] = {"linestyle": "none", "marker": "o", "color": "#9a9a9a", "markeredgewidth": 0}
    handles = [Line2D([], [], markersize=(full_pt2 * share) ** 0.5, label=f"{100 * share:.0f} %", **style) for share in (0.25, 0.5, 1)]
    part.legend(handles=handles, loc="outside lower right", ncols=3, title="cells with the gene", title_fontsize=6.5, handletextpad=0.2)
