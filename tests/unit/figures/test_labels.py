"""The label report shows the values of the tables."""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.figures import labels
from nuclass_pipeline.figures.draw import draw_figure
from nuclass_pipeline.figures.style import COLORS, short_name
from nuclass_pipeline.io import write_table
from nuclass_pipeline.schemas import CELLS, CLUSTERS, LABELS, MARKERS
from nuclass_pipeline.vocabulary import CLASSES, UNRESOLVED

TYPES = ("T_Cell", "B_Cell", "Epithelial_Malignant")
REASONS = ("weak support", "lineage only", "lineage only", "conflicting lineages")


def _slide(cells: int = 600, clusters: int = 3, types: tuple[str, ...] = TYPES) -> dict[str, pd.DataFrame]:
    """Return clusters of one type each; every tenth cell failed quality control, every seventh of the others is Unresolved."""
    rng, row = np.random.default_rng(0), np.arange(cells)
    ids = [f"c{i}" for i in row]
    failed, unsure = row % 10 == 0, (row % 10 != 0) & (row % 7 == 0)
    number = row % clusters
    cluster = pd.Series(number.astype(str), dtype=object).where(~failed, None)
    place = np.where(failed[:, None], np.nan, 9.0 * np.c_[number, number % 2] + rng.normal(size=(cells, 2)))
    label = np.where(failed | unsure, UNRESOLVED, np.array(types)[number % len(types)])
    reason = np.select([failed, unsure], ["poor quality", np.array(REASONS)[row % 4]], "")
    points = {"x_um": rng.uniform(5000, 9000, cells), "y_um": rng.uniform(100, 2100, cells)}
    evidence = {"confidence": np.where(failed, 0, rng.random(cells)), "support": 0.5, "margin": 0.5, "purity": 1.0}
    names: dict[str, Any] = {"candidate": None, "lineage": None, "lineage_confidence": 0.9, "source": "rules"}
    sure = pd.Series(reason, dtype=object).where(reason != "", None)
    rows = [(str(c), f"GENE{c}{rank}", rank) for c in range(clusters) for rank in range(1, 7)]
    markers = pd.DataFrame(rows, columns=["cluster", "gene", "rank"]).assign(score=9.0, fraction_out=0.1, p_adjusted=1e-9)
    effects = {"log2fc": np.linspace(1, 4.5, len(rows)), "fraction_in": np.linspace(0.2, 1, len(rows))}
    sizes = {"cell_area_um2": 90.0, "nucleus_area_um2": 30.0, "transcripts": 100, "nucleus_transcripts": 40.0, "controls": 0}
    return {
        "cells": pd.DataFrame({"cell_id": ids, **points, **sizes}),
        "clusters": pd.DataFrame({"cell_id": ids, "cluster": cluster, "umap_1": place[:, 0], "umap_2": place[:, 1]}),
        "markers": markers.assign(**effects),
        "labels": pd.DataFrame({"cell_id": ids, "cluster": cluster, "label": label, **names, **evidence, "reason": sure}),
    }


def _write(tables: dict[str, pd.DataFrame], folder: Path) -> dict[str, Path]:
    schemas = {"cells": CELLS, "clusters": CLUSTERS, "markers": MARKERS, "labels": LABELS}
    for name, table in tables.items():
        write_table(table, folder / f"{name}.parquet", schemas[name])
    return {name: folder / f"{name}.parquet" for name in tables}


def _draw(tables: dict[str, pd.DataFrame], folder: Path) -> Figure:
    return labels.draw(**_write(tables, folder), slide="lung-1")


def _panel(figure: Figure, title: str) -> Axes:
    return next(axes for axes in figure.axes if axes.get_title(loc="left").startswith(title))


def _widths(axes: Axes) -> dict[str, float]:
    return {tick.get_text(): bar.get_width() for tick, bar in zip(axes.get_yticklabels(), axes.patches, strict=True)}


def test_bars_are_the_counts_of_the_table(tmp_path: Path) -> None:
    tables = _slide()
    figure, table = _draw(tables, tmp_path), tables["labels"]
    composition = _panel(figure, "Composition")
    counts = table["label"].value_counts()
    assert _widths(composition) == {short_name(name): counts[name] for name in counts.index}
    assert sum(_widths(composition).values()) == 600
    assert [tick.get_text() for tick in composition.get_yticklabels()] == ["B cell", "Malignant", "T cell", "Unresolved"]
    assert [bar.get_facecolor() for bar in composition.patches] == [to_rgba(COLORS[name]) for name in (*sorted(TYPES), UNRESOLVED)]
    why = _panel(figure, "Unresolved")
    assert _widths(why) == table["reason"].value_counts().to_dict()
    assert list(_widths(why).values()) == sorted(_widths(why).values(), reverse=True)
    assert sum(_widths(why).values()) == counts[UNRESOLVED]
    assert why.texts[0].get_text() == "60 (10.0 %)"
    assert figure.get_suptitle() == f"lung-1: 600 cells, {100 * (1 - counts[UNRESOLVED] / 600):.1f} % labelled"


@pytest.mark.parametrize(("panel", "columns"), [("UMAP", ["umap_1", "umap_2"]), ("Tissue", ["x_um", "y_um"])])
def test_every_cell_has_its_coordinates_and_color(tmp_path: Path, panel: str, columns: list[str]) -> None:
    tables = _slide()
    figure = _draw(tables, tmp_path)
    table = tables["labels"].join(tables["cells"][["x_um", "y_um"]]).join(tables["clusters"][["umap_1", "umap_2"]]).dropna(subset=columns)
    assert len(table) == (540 if panel == "UMAP" else 600)
    by_label = _panel(figure, f"{panel}, label").collections[0]
    drawn = {tuple(place): tuple(color) for place, color in zip(by_label.get_offsets().data, by_label.get_facecolors(), strict=True)}
    places = zip(table[columns[0]], table[columns[1]], strict=True)
    assert drawn == {place: to_rgba(COLORS[label]) for place, label in zip(places, table["label"], strict=True)}
    by_confidence = _panel(figure, f"{panel}, confidence").collections[0]
    sure = dict(zip(by_confidence.get_offsets().data[:, 0], by_confidence.get_array(), strict=True))
    assert sure == dict(zip(table[columns[0]], table["confidence"], strict=True))
    assert by_label.get_rasterized()
    grey = [tuple(color) == to_rgba(COLORS[UNRESOLVED]) for color in by_label.get_facecolors()]
    assert grey == sorted(grey, reverse=True), "Unresolved is drawn below the others"


def test_the_tissue_is_oriented_as_in_the_image_and_has_a_scale_bar(tmp_path: Path) -> None:
    for axes in (_panel(figure := _draw(_slide(), tmp_path), "Tissue, label"), _panel(figure, "Tissue, confidence")):
        low, high = axes.get_ylim()
        assert low > high
        assert axes.get_aspect() == 1
        (bar,) = axes.get_lines()
        assert np.ptp(bar.get_xdata()) == 1000
        assert axes.texts[0].get_text() == "1,000 µm"
        assert high < bar.get_ydata()[0] < low


def test_dots_are_the_markers_of_the_table(tmp_path: Path) -> None:
    tables = _slide()
    # A gene of cluster 2 becomes a weaker marker of cluster 0 too, and must not be repeated.
    tables["markers"].loc[5, ["gene", "log2fc", "fraction_in"]] = ["GENE21", 2.25, 0.3]
    axes = _panel(_draw(tables, tmp_path), "Markers")
    rows = [tick.get_text() for tick in axes.get_yticklabels()]
    assert rows == ["B cell · 1 (180)", "Malignant · 2 (180)", "T cell · 0 (180)"]
    genes = [tick.get_text() for tick in axes.get_xticklabels()]
    assert genes == [f"GENE{cluster}{rank}" for cluster in "120" for rank in range(1, 5)]
    dots = axes.collections[0]
    drawn = {(genes[int(x)], rows[int(y)].split()[-2]): i for i, (x, y) in enumerate(dots.get_offsets().data)}
    shown = tables["markers"][tables["markers"]["gene"].isin(genes)].set_index(["gene", "cluster"])
    assert set(drawn) == set(shown.index)
    assert len(drawn) == 13
    order = list(drawn)
    np.testing.assert_allclose(dots.get_array(), shown.loc[order, "log2fc"])
    np.testing.assert_allclose(dots.get_sizes() / dots.get_sizes().max(), shown.loc[order, "fraction_in"] / shown["fraction_in"].max())
    assert dots.norm.vmin == 0
    assert dots.norm.vmax == np.ceil(shown["log2fc"].max())


@pytest.mark.parametrize(("clusters", "each"), [(1, 4), (12, 4), (16, 3), (25, 2), (60, 1), (90, 1)])
def test_many_clusters_show_fewer_genes_each(clusters: int, each: int) -> None:
    names = [str(number) for number in range(clusters)]
    markers = pd.DataFrame([(name, f"{name}-{rank}", rank) for name in names for rank in range(1, 9)], columns=["cluster", "gene", "rank"])
    assert labels.top_genes(markers, names) == [f"{name}-{rank}" for name in names for rank in range(1, each + 1)]


def _one_cluster() -> dict[str, pd.DataFrame]:
    tables = _slide(clusters=1, types=("T_Cell",))
    return tables | {"markers": tables["markers"].iloc[:0]}


def _nothing_labelled() -> dict[str, pd.DataFrame]:
    tables = _slide()
    return tables | {"labels": tables["labels"].assign(label=UNRESOLVED)}


def _all_labelled() -> dict[str, pd.DataFrame]:
    tables = _slide()
    return tables | {"labels": tables["labels"].assign(label="T_Cell", reason=None)}


def _nothing_passed() -> dict[str, pd.DataFrame]:
    tables = _one_cluster()
    clusters = tables["clusters"].assign(cluster=None, umap_1=np.nan, umap_2=np.nan)
    return tables | {"clusters": clusters, "labels": tables["labels"].assign(label=UNRESOLVED, cluster=None)}


def _one_cell() -> dict[str, pd.DataFrame]:
    return {name: table.iloc[1:2].reset_index(drop=True) if name != "markers" else table.iloc[:0] for name, table in _slide().items()}


def _full() -> dict[str, pd.DataFrame]:
    return _slide(cells=3000, clusters=30, types=CLASSES)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_one_cluster, {"no cluster has a marker"}),
        (_nothing_labelled, {"Unresolved · 0 (180)", labels.NO_REASON}),
        (_all_labelled, {"no cell", "T cell · 2 (180)"}),
        (_nothing_passed, {"no cell has coordinates here", "no cluster has a marker"}),
        (_one_cell, {"no cluster has a marker"}),
        (_slide, {"poor quality"}),
        (_full, {"Fibroblast, TA", "GENE291"}),
    ],
)
def test_unusual_slides_make_pages_without_overlaps_or_cuts(tmp_path: Path, make: Any, said: set[str]) -> None:
    figure = _draw(make(), tmp_path)
    figure.draw_without_rendering()
    texts = [
        text
        for axes in figure.axes
        for text in [*axes.texts, *axes.get_xticklabels(), *axes.get_yticklabels(), axes.xaxis.label, axes._left_title]
    ]
    texts = [text for text in texts if text.get_text() and text.get_visible()]
    assert said <= {text.get_text() for text in texts}
    boxes = [text.get_window_extent() for text in texts]
    assert not [pair for pair in combinations([box.padded(-1) for box in boxes], 2) if pair[0].overlaps(pair[1])]
    width, height = figure.bbox.size
    assert min(min(box.x0, box.y0) for box in boxes) >= 0
    assert max(box.x1 for box in boxes) <= width
    assert max(box.y1 for box in boxes) <= height


def test_rows_of_clusters_and_abbreviated_names_are_explained(tmp_path: Path) -> None:
    plain = _draw(_slide(), tmp_path)
    assert _panel(plain, "Markers").get_title(loc="left") == "Markers of each cluster: most frequent label · cluster (cells)"
    assert _panel(plain, "Composition").get_xlabel() == ""
    # Six of the 60 clusters have no cell that passed quality control.
    full = _draw(_slide(cells=3000, clusters=60, types=CLASSES), tmp_path)
    assert _panel(full, "Markers").get_title(loc="left").startswith("Markers of the 50 largest of 54 clusters: ")
    assert _panel(full, "Composition").get_xlabel() == "TA: tumour-associated"


def test_no_cells_other_cells_and_other_labels_are_refused(tmp_path: Path) -> None:
    tables = _slide()
    with pytest.raises(UserError, match=r"labels\.parquet: cell_id: its cells differ"):
        _draw(tables | {"labels": tables["labels"].iloc[::-1].reset_index(drop=True)}, tmp_path)
    with pytest.raises(UserError, match="there is no cell to show"):
        _draw({name: table.iloc[:0] for name, table in tables.items()}, tmp_path)
    with pytest.raises(UserError, match="'Platypus' is not a class"):
        _draw(tables | {"labels": tables["labels"].assign(label="Platypus")}, tmp_path)


def test_equal_tables_make_equal_files(tmp_path: Path) -> None:
    inputs = _write(_slide(), tmp_path)
    for run in "ab":
        outputs = [tmp_path / f"{run}.{suffix}" for suffix in ("pdf", "png")]
        draw_figure(name="labels", inputs=inputs, options={"slide": "lung-1"}, outputs=outputs)
    for suffix in ("pdf", "png"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
