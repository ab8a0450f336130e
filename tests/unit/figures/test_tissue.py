from pathlib import Path

import pytest

from nuclass_pipeline.figures import cell_map, gate_map, tissue
from tests.unit.figures import fakes


def test_tissue_maps_have_y_downwards_and_a_scale_bar(tmp_path: Path) -> None:
    paths = fakes.write_predictions(tmp_path, cells=300, slides=fakes.SLIDES[:1])
    maps = [cell_map.draw(gate=paths["gate"], slides=["one"]).axes[0]]
    maps.append(gate_map.draw(local=paths["local"], global_=paths["global"], gate=paths["gate"], slides=["one"]).axes[0])
    for axes in maps:
        bottom, top = axes.get_ylim()
        assert bottom > top
        assert axes.get_aspect() == 1
        assert len(axes.lines) == 1


@pytest.mark.parametrize(("longest", "length"), [(1, 1), (1.99, 1), (2, 2), (499, 200), (500, 500), (3666, 2000), (0.06, 0.05)])
def test_scale_bars_are_round(longest: float, length: float) -> None:
    assert tissue.round_length(longest) == pytest.approx(length)


def test_more_cells_make_smaller_points() -> None:
    areas = [tissue.marker_area(4000, 2000, cells, 2.15) for cells in (2500, 50_000, 500_000)]
    assert areas == sorted(areas, reverse=True)
    assert tissue.marker_area(4000, 2000, 5000, 2.15) == pytest.approx(2 * tissue.marker_area(4000, 2000, 10_000, 2.15))
    # 10,000 cells share half of a square of 2.15 inches.
    assert tissue.marker_area(4000, 2000, 10_000, 2.15) == pytest.approx(0.8 * 0.5 * (2.15 * 72) ** 2 / 10_000)
