from pathlib import Path

import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from nuclass_pipeline.figures import cell_map
from nuclass_pipeline.figures.pictures.tissue import NO_IMAGE
from nuclass_pipeline.figures.style import COLORS, short_name
from tests.unit.figures import fakes


def test_the_cell_map_shows_every_cell_in_the_color_of_its_class_and_counts_it(tmp_path: Path) -> None:
    paths = fakes.write_predictions(tmp_path, cells=900, slides=fakes.SLIDES[:2])["gate"]
    overviews = fakes.write_overviews(tmp_path / "o.parquet", ("one",))
    figure = cell_map.draw(gate=paths, overviews=overviews, slides=["one", "two"])
    for row, path in enumerate(paths):
        cells = pd.read_parquet(path)
        classes, certainty, bars = figure.axes[3 * row : 3 * row + 3]
        places = classes.collections[0].get_offsets()
        assert len(places) == len(cells)
        colors = {tuple(place): tuple(color[:3]) for place, color in zip(places, classes.collections[0].get_facecolors(), strict=True)}
        expected = {(cell.x_um, cell.y_um): to_rgb(COLORS[cell.predicted]) for cell in cells.itertuples()}
        assert colors.keys() == expected.keys()
        assert all(colors[place] == pytest.approx(expected[place]) for place in expected)
        shown = dict(zip(map(tuple, certainty.collections[0].get_offsets()), certainty.collections[0].get_array(), strict=True))
        greatest = cells.filter(regex="^p_").to_numpy().max(axis=1)
        assert [shown[x, y] for x, y in zip(cells["x_um"], cells["y_um"], strict=True)] == pytest.approx(greatest)
        counts = {tick.get_text(): bar.get_width() for tick, bar in zip(bars.get_yticklabels(), bars.patches, strict=True)}
        assert counts == {short_name(name): n for name, n in cells["predicted"].value_counts().items()}
        assert classes.get_title(loc="left") == f"{('one', 'two')[row]}\n{len(cells):,} cells"
        n = cells["predicted"].value_counts()["Epithelial_Malignant"]
        assert f"{n:,} ({100 * n / len(cells):.1f} %)" in {text.get_text() for text in bars.texts}
        assert len(classes.images) == len(certainty.images) == (row == 0)
        assert (NO_IMAGE in {text.get_text() for text in classes.texts}) == (row == 1)
