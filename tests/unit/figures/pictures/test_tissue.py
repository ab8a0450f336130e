from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nuclass_pipeline.figures import cell_map, gate_map
from nuclass_pipeline.figures.pictures import tissue
from tests.unit.figures import fakes


def test_tissue_maps_have_y_downwards_and_a_scale_bar(tmp_path: Path) -> None:
    paths = fakes.write_predictions(tmp_path, cells=300, slides=fakes.SLIDES[:1])
    shown: dict[str, Any] = {"gate": paths["gate"], "overviews": fakes.write_overviews(tmp_path / "o.parquet", ("one",)), "slides": ["one"]}
    maps = [cell_map.draw(**shown).axes[0], gate_map.draw(local=paths["local"], global_=paths["global"], **shown).axes[0]]
    for axes in maps:
        bottom, top = axes.get_ylim()
        assert bottom > top
        assert axes.get_aspect() == 1
        (bar,) = axes.lines
        assert f"{np.ptp(bar.get_xdata()):,g} µm" == axes.texts[-1].get_text()
        # The H&E lies where its table says, below the cells.
        (image,) = axes.images
        assert image.get_extent() == [-10, 3990, 3180, -20]
        assert image.get_zorder() < axes.collections[0].get_zorder()
        assert image.get_array()[0, 0].tolist() == [127, 127, 127]


def test_more_cells_make_smaller_points() -> None:
    areas = [tissue.marker_area(4000, 2000, cells, 2.15) for cells in (2500, 50_000, 500_000)]
    assert areas == sorted(areas, reverse=True)
    assert tissue.marker_area(4000, 2000, 5000, 2.15) == pytest.approx(2 * tissue.marker_area(4000, 2000, 10_000, 2.15))
    # 10,000 cells share half of a square of 2.15 inches.
    assert tissue.marker_area(4000, 2000, 10_000, 2.15, 0.4) == pytest.approx(0.5 * tissue.marker_area(4000, 2000, 10_000, 2.15))
    assert tissue.marker_area(4000, 2000, 10_000, 2.15) == pytest.approx(0.8 * 0.5 * (2.15 * 72) ** 2 / 10_000)
