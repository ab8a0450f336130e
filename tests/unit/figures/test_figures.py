import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Wedge

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.figures import attribution, cell_map, complementarity, composition, confusion, gate_map, registration, reliability
from nuclass_pipeline.figures.draw import draw_figure
from nuclass_pipeline.figures.style import COLORS, RC, is_dark, short_name
from nuclass_pipeline.vocabulary import CLASSES, UNRESOLVED
from tests.unit.figures import fakes


@pytest.fixture(autouse=True)
def _house_style() -> Iterator[None]:
    with rc_context(RC):
        yield


def _wedges(axes: Axes, kind: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for patch in axes.patches:
        if isinstance(patch, Wedge) and str(patch.get_gid()).startswith(kind):
            found.setdefault(patch.get_gid().split(":")[1], []).append(patch.theta2 - patch.theta1)
    return found


def test_rings_close_and_no_arc_is_below_two_degrees(tmp_path: Path) -> None:
    figure = composition.draw(cohort=fakes.write_cohort(tmp_path / "cohort.parquet"))
    for axes, organs in zip(figure.axes, (8, 3), strict=True):
        inner, outer = _wedges(axes, "organ"), _wedges(axes, "class")
        assert len(inner) == organs
        assert sum(sum(arcs) for arcs in inner.values()) == pytest.approx(360)
        arcs = [arc for arcs in outer.values() for arc in arcs]
        assert sum(arcs) == pytest.approx(360)
        assert min(arcs) >= 2 - 1e-9


def test_arcs_grow_with_the_square_root_and_labels_print_the_truth(tmp_path: Path) -> None:
    held = composition.draw(cohort=fakes.write_cohort(tmp_path / "cohort.parquet")).axes[1]
    inner = _wedges(held, "organ")
    assert inner["ovary"][0] / inner["lung"][0] == pytest.approx((138 / 75) ** 0.5)
    texts = {text.get_text() for text in held.texts}
    # 20 % Unresolved cells were planted beside these and must not change the shares.
    assert {"Malignant 74.7", "Ductal 45.2", "ovary\n46.0 %", "Held out\n300,000 cells\n3 slides"} <= texts
    assert not any("Unresolved" in text for text in texts)


@pytest.mark.parametrize("shares", [[1.0], [0.5, 0.5], [0.9999, 0.0001], [0.6, 0.39, 0.005, 0.005]])
def test_compressed_angles_fill_the_whole(shares: list[float]) -> None:
    angles = composition.compress(np.array(shares), 40.0, np.full(len(shares), 2.0))
    assert angles.sum() == pytest.approx(40)
    assert (angles >= 2 - 1e-9).all()
    assert (np.diff(angles) <= 1e-9).all()


def test_labels_are_spread_and_stay_in_order() -> None:
    wanted = np.array([0.0, 1.0, 2.0, 100.0, 358.0, 359.0])
    moved = composition.spread_circle(wanted, 5.0)
    around = np.sort(np.concatenate([moved % 360, moved.min(keepdims=True) % 360 + 360]))
    assert np.diff(around).min() >= 5 - 1e-6
    assert moved[3] % 360 == pytest.approx(100)
    np.testing.assert_allclose(composition.spread(np.array([0.0, 10.0]), 5.0), [0, 10])


def test_confusion_rows_are_shares_of_the_label(tmp_path: Path) -> None:
    paths = fakes.write_predictions(tmp_path, cells=600, slides=fakes.SLIDES[:2])
    figure = confusion.draw(local=paths["local"], global_=paths["global"], gate=paths["gate"])
    frame = pd.concat(map(pd.read_parquet, paths["gate"]))
    for axes in figure.axes[:3]:
        np.testing.assert_allclose(axes.images[0].get_array().sum(axis=1), 1)
    axes = figure.axes[2]
    labels = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    columns = [tick.get_text() for tick in axes.get_xticklabels()]
    malignant = frame[frame["label"] == "Epithelial_Malignant"]
    share = (malignant["predicted"] == "Macrophage").mean()
    entry = axes.images[0].get_array()[labels.index("Malignant"), columns.index("Macrophage")]
    assert entry == pytest.approx(share)
    # Monocyte is on the slide but not a class of the model; Unresolved is no class at all.
    known = frame[~frame["label"].isin(["Monocyte", UNRESOLVED])]
    assert "Monocyte" not in labels
    assert "Monocyte" in set(frame["label"])
    assert axes.get_title(loc="left").endswith(f"{(known['label'] == known['predicted']).mean():.3f}")


def test_reliability_points_and_ece(tmp_path: Path) -> None:
    figure = reliability.draw(reliability=fakes.write_reliability(tmp_path / "r.parquet"), heldout=fakes.write_ece(tmp_path / "h.parquet"))
    local = figure.axes[0]
    _, raw, calibrated = local.get_lines()
    np.testing.assert_allclose(raw.get_xdata(), np.arange(1, 10) / 10 + 0.05)
    np.testing.assert_allclose(raw.get_ydata(), 0.6 * raw.get_xdata())
    np.testing.assert_allclose(calibrated.get_ydata(), 0.97 * calibrated.get_xdata())
    assert [text.get_text() for text in local.get_legend().get_texts()] == ["raw, ECE 0.241", "calibrated, ECE 0.020"]
    assert figure.axes[3].patches[0].get_data().values.sum() == pytest.approx(1)


def test_bins_of_seeds_are_joined_by_their_cells() -> None:
    edges = {"bin_low": 0.0, "bin_high": 0.5}
    bins = pd.DataFrame(
        [
            {"bin": 0, **edges, "confidence": 0.4, "accuracy": 0.2, "n": 30},
            {"bin": 0, **edges, "confidence": 0.2, "accuracy": 0.6, "n": 10},
            {"bin": 1, "bin_low": 0.5, "bin_high": 1.0, "confidence": np.nan, "accuracy": np.nan, "n": 0},
        ]
    )
    joined = reliability.average_seeds(bins)
    assert joined.loc[0, ["confidence", "accuracy", "n"]].tolist() == pytest.approx([0.35, 0.3, 40])
    assert joined.loc[1, ["confidence", "accuracy"]].isna().all()


def test_stacked_bars_are_the_outcomes(tmp_path: Path) -> None:
    figure = complementarity.draw(complementarity=fakes.write_complementarity(tmp_path / "c.parquet"))
    axes = figure.axes[0]
    widths = np.array([[bar.get_width() for bar in bars] for bars in axes.containers])
    np.testing.assert_allclose(widths.sum(axis=0), 1)
    labels = [tick.get_text() for tick in axes.get_yticklabels()]
    assert labels[0] == "All cells  (1,900)"
    assert labels[1:] == sorted(labels[1:], key=lambda name: [short_name(c) for c in CLASSES].index(name.split("  ")[0]))
    np.testing.assert_allclose(widths[:, labels.index("T cell  (100)")], [0.2, 0.1, 0.45, 0.25])
    gate, oracle = axes.get_lines()
    assert oracle.get_xdata()[0] == pytest.approx(1 - 170 / 1900)
    assert gate.get_xdata()[labels.index("T cell  (100)")] == pytest.approx(0.2 + 0.75 * 0.45)
    np.testing.assert_allclose(figure.axes[1].collections[-1].get_offsets()[0], [0.2, 0])


def test_gate_map_shows_every_cell_once(tmp_path: Path) -> None:
    slides = fakes.SLIDES[:2]
    paths = fakes.write_predictions(tmp_path, cells=500, slides=slides)
    figure = gate_map.draw(local=paths["local"], global_=paths["global"], gate=paths["gate"], slides=slides)
    frame = pd.read_parquet(paths["gate"][1])
    g, outcome = figure.axes[2], figure.axes[3]
    assert g.get_title(loc="left") == "lung-2"
    np.testing.assert_allclose(g.collections[0].get_array(), frame["g"])
    np.testing.assert_allclose(g.collections[0].get_offsets(), frame[["x_um", "y_um"]])
    drawn = {points.get_label(): len(points.get_offsets()) for points in outcome.collections}
    right = {m: (pd.read_parquet(paths[m][1])["predicted"] == frame["label"])[frame["label"] != UNRESOLVED] for m in ("local", "global")}
    assert drawn["local_only"] == (right["local"] & ~right["global"]).sum()
    assert sum(drawn.values()) == (frame["label"] != UNRESOLVED).sum()
    # y grows downwards, as on the slide.
    low, high = g.get_ylim()
    assert low > high


def test_gate_map_refuses_other_cells(tmp_path: Path) -> None:
    paths = fakes.write_predictions(tmp_path, cells=50, slides=fakes.SLIDES[:2])
    with pytest.raises(UserError, match="other cells than the gate's"):
        gate_map.draw(local=paths["local"][::-1], global_=paths["global"], gate=paths["gate"], slides=fakes.SLIDES[:2])


def test_attribution_lays_heat_on_crops(tmp_path: Path) -> None:
    path = fakes.write_attribution(tmp_path / "a.parquet", cells=4)
    figure = attribution.draw(attribution=path, columns=3)
    first = pd.read_parquet(path).iloc[0]
    grid = np.array(figure.axes).reshape(2, 4, -1)
    assert [len(axes.images) for axes in grid[0, :, 0]] == [1, 2, 1, 2]
    np.testing.assert_allclose(grid[0, 1, 0].images[1].get_array().ravel(), first["heat"])
    assert grid[0, 0, 0].images[0].get_array().shape == (112, 112, 3)
    assert grid[0, 0, 0].get_title() in {"Malignant ✓", "Macrophage ✗"}
    assert not grid[0, 0, 3].images


def test_attribution_without_cells_says_what_to_do(tmp_path: Path) -> None:
    path = fakes.write_attribution(tmp_path / "a.parquet", cells=1)
    pd.read_parquet(path).iloc[:0].to_parquet(path)
    with pytest.raises(UserError, match="explained_cells"):
        attribution.draw(attribution=path)


def test_registration_names_every_slide_and_verdict(tmp_path: Path) -> None:
    figure = registration.draw(registration=fakes.write_registration(tmp_path / "r.parquet", slides=5))
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title(loc="left") for axes in shown] == [*fakes.SLIDES, "breast-1", "colon-1"]
    assert shown[2].get_title(loc="right") == "shifted"
    assert shown[2].texts[0].get_text().splitlines()[1] == "best shift (−7.9, +0.9) µm"


def test_no_two_texts_of_a_figure_overlap(tmp_path: Path) -> None:
    figures = [
        complementarity.draw(complementarity=fakes.write_complementarity(tmp_path / "c.parquet")),
        registration.draw(registration=fakes.write_registration(tmp_path / "r.parquet")),
        reliability.draw(reliability=fakes.write_reliability(tmp_path / "b.parquet"), heldout=fakes.write_ece(tmp_path / "h.parquet")),
    ]
    for figure in figures:
        figure.draw_without_rendering()
        texts = [text for axes in figure.axes for text in [*axes.texts, *axes.get_xticklabels(), *axes.get_yticklabels()]]
        boxes = [text.get_window_extent().padded(-1) for text in texts if text.get_text() and text.get_visible()]
        assert not [pair for pair in itertools.combinations(boxes, 2) if pair[0].overlaps(pair[1])]


def test_files_are_deterministic_and_text_stays_text(tmp_path: Path) -> None:
    path = fakes.write_complementarity(tmp_path / "c.parquet")
    for run in "ab":
        outputs = [tmp_path / f"{run}.{suffix}" for suffix in ("pdf", "png")]
        draw_figure(name="complementarity", inputs={"complementarity": path}, options={"slide": "pooled"}, outputs=outputs)
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert b"/Type /Font" in (tmp_path / "a.pdf").read_bytes()
    assert b"CreationDate" not in (tmp_path / "a.pdf").read_bytes()


@pytest.mark.parametrize("name", ["nonsense", "../draw"])
def test_an_unknown_figure_is_a_user_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="there is no figure"):
        draw_figure(name=name, inputs={}, options={}, outputs=[tmp_path / "x.png"])


def _lab(colors: list[str], vision: np.ndarray) -> np.ndarray:
    """CIELAB of colours as a dichromat sees them; `vision` from Machado et al. 2009."""
    rgb = np.array([to_rgb(color) for color in colors])
    linear = np.clip(np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ vision.T, 0, 1)
    to_xyz = np.array([[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]])
    xyz = np.cbrt(linear @ to_xyz.T / [0.9505, 1, 1.0888])
    return np.stack([116 * xyz[:, 1] - 16, 500 * (xyz[:, 0] - xyz[:, 1]), 200 * (xyz[:, 1] - xyz[:, 2])], axis=1)


@pytest.mark.parametrize(
    ("vision", "least"),
    [
        (np.eye(3), 20),
        (np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]), 12),
        (np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]), 12),
    ],
    ids=["normal", "deuteranope", "protanope"],
)
def test_every_class_has_a_color_of_its_own(vision: np.ndarray, least: float) -> None:
    assert set(COLORS) == {*CLASSES, UNRESOLVED}
    lab = _lab(list(COLORS.values()), vision)
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1)[np.triu_indices(len(lab), 1)]
    assert distance.min() >= least


def test_names_are_short_and_distinct() -> None:
    assert [short_name(name) for name in ("B_Cell", "Smooth_Muscle", "Epithelial_Malignant")] == ["B cell", "Smooth muscle", "Malignant"]
    assert len({short_name(name) for name in CLASSES}) == len(CLASSES)
    assert is_dark(to_rgb("black"))
    assert not is_dark(to_rgb("white"))


def test_the_cell_map_shows_every_cell_in_the_color_of_its_class_and_counts_it(tmp_path: Path) -> None:
    paths = fakes.write_predictions(tmp_path, cells=900, slides=fakes.SLIDES[:2])["gate"]
    figure = cell_map.draw(gate=paths, slides=["one", "two"])
    for row, path in enumerate(paths):
        cells = pd.read_parquet(path)
        classes, sureness, bars = figure.axes[3 * row : 3 * row + 3]
        places = classes.collections[0].get_offsets()
        assert len(places) == len(cells)
        colors = {tuple(place): tuple(color[:3]) for place, color in zip(places, classes.collections[0].get_facecolors(), strict=True)}
        expected = {(cell.x_um, cell.y_um): to_rgb(COLORS[cell.predicted]) for cell in cells.itertuples()}
        assert colors.keys() == expected.keys()
        assert all(colors[place] == pytest.approx(expected[place]) for place in expected)
        shown = dict(zip(map(tuple, sureness.collections[0].get_offsets()), sureness.collections[0].get_array(), strict=True))
        greatest = cells.filter(regex="^p_").to_numpy().max(axis=1)
        assert [shown[x, y] for x, y in zip(cells["x_um"], cells["y_um"], strict=True)] == pytest.approx(greatest)
        counts = {tick.get_text(): bar.get_width() for tick, bar in zip(bars.get_yticklabels(), bars.patches, strict=True)}
        assert counts == {short_name(name): n for name, n in cells["predicted"].value_counts().items()}
        assert classes.get_title(loc="left") == f"{('one', 'two')[row]}: {len(cells):,} cells"


def test_tissue_maps_have_y_downwards_and_a_scale_bar(tmp_path: Path) -> None:
    paths = fakes.write_predictions(tmp_path, cells=300, slides=fakes.SLIDES[:1])
    maps = [cell_map.draw(gate=paths["gate"], slides=["one"]).axes[0]]
    maps.append(gate_map.draw(local=paths["local"], global_=paths["global"], gate=paths["gate"], slides=["one"]).axes[0])
    for axes in maps:
        bottom, top = axes.get_ylim()
        assert bottom > top
        assert axes.get_aspect() == 1
        assert len(axes.lines) == 1
