from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import colormaps

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.figures import attribution
from nuclass_pipeline.figures.style import short_name
from tests.unit.figures import fakes


def _grid(path: Path, columns: int = 3) -> np.ndarray:
    """Return the panels by slide, row and column; the last axes are those of the key."""
    return np.array(attribution.draw(attribution=path, columns=columns).axes[:-1]).reshape(2, 4, -1)


def test_every_column_says_label_class_and_probability(tmp_path: Path) -> None:
    path = fakes.write_attribution(tmp_path / "a.parquet", cells=4)
    table = pd.read_parquet(path)
    grid = _grid(path)
    for column, cell in enumerate(("c0", "c1", "c2")):
        local, wide = table[(table["slide"] == fakes.SLIDES[0]) & (table["cell_id"] == cell)].itertuples()
        head, below = ([text.get_text() for text in grid[0, row, column].texts] for row in (0, 2))
        marks = {row.model: "✓" if row.predicted == row.label else "✗" for row in (local, wide)}
        gate = "✓" if local.label == "Macrophage" else "✗"
        # The label, the gate and the local path above the first row; the global path above the third.
        assert {short_name(local.label), f"Macrophage 0.62 {gate}", f"{short_name(local.predicted)} 0.50 {marks['local']}"} <= set(head)
        assert f"{short_name(wide.predicted)} 0.50 {marks['global']}" in below
    assert {"label", "gate"} <= {text.get_text() for text in grid[0, 0, 0].texts}
    assert not grid[0, 0, 3].images


def test_the_cell_is_marked_and_the_crop_is_a_square_in_the_context(tmp_path: Path) -> None:
    grid = _grid(fakes.write_attribution(tmp_path / "a.parquet", cells=4))
    for row, field_um in enumerate((56, 56, 256, 256)):
        marks = {patch.get_gid(): patch for patch in grid[0, row, 0].patches if patch.get_gid()}
        assert marks["cell"].center == (field_um / 2, field_um / 2)
        if field_um == 56:
            assert "crop" not in marks
        else:
            square = marks["crop"]
            assert (square.get_x(), square.get_y(), square.get_width(), square.get_height()) == (100, 100, 56, 56)


def test_the_map_is_drawn_on_tissue_and_glass_is_white() -> None:
    pixels = np.full((40, 40, 3), (230, 170, 200), np.uint8)
    tissue = np.ones((40, 40), bool)
    tissue[:, :10] = False
    heat = np.zeros((4, 4))
    heat[:, :2] = 1
    shown = attribution.paint_heat(pixels, heat, fakes.png(tissue))
    assert (shown[:, :10] == 1).all(), "glass is masked"
    hot, cold = shown[20, 12], shown[20, 35]
    grey = 0.3 + 0.5 * (0.299 * 230 + 0.587 * 170 + 0.114 * 200) / 255
    assert cold == pytest.approx([grey] * 3)
    assert hot == pytest.approx(0.25 * grey + 0.75 * np.array(colormaps["plasma"](1.0)[:3]))


def test_the_masked_share_is_above_each_map_and_the_key_names_the_mask(tmp_path: Path) -> None:
    path = fakes.write_attribution(tmp_path / "a.parquet", cells=6)
    grid = _grid(path, columns=6)
    for row in (1, 3):
        texts = [text.get_text() for axes in grid[0, row] for text in axes.texts]
        assert texts == [*(f"evidence masked {share} %" for share in (0, 12, 25, 38, 50)), "no evidence"]
    assert not any("masked" in text.get_text() for axes in grid[0, ::2].ravel() for text in axes.texts)
    key = [text.get_text() for legend in attribution.draw(attribution=path).subfigs[-1].legends for text in legend.get_texts()]
    assert key[-1] == "masked: glass and lumens"


def test_scale_bars_are_as_long_as_they_say(tmp_path: Path) -> None:
    grid = _grid(fakes.write_attribution(tmp_path / "a.parquet", cells=4))
    for row, text, length in ((0, "10 µm", 10), (2, "50 µm", 50)):
        axes = grid[0, row, 0]
        (bar,) = [line for line in axes.lines if line.get_gid() == "scale bar"]
        assert text in {shown.get_text() for shown in axes.texts}
        left, right = bar.get_xdata()
        assert right - left == length
        # In pixels of the crop: µm by the µm of a pixel.
        assert (right - left) / axes.get_xlim()[1] * 112 == pytest.approx(length / (axes.get_xlim()[1] / 112))


def test_a_table_without_cells_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    path = fakes.write_attribution(tmp_path / "a.parquet", cells=1)
    pd.read_parquet(path).iloc[:0].to_parquet(path)
    with pytest.raises(UserError, match=r"attribution\.cells"):
        attribution.draw(attribution=path)
