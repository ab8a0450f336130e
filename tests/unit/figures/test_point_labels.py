from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.figures import point_labels
from nuclass_pipeline.figures.style import COLORS
from nuclass_pipeline.io import write_table
from nuclass_pipeline.schemas import POINT_IMAGES
from tests.unit.figures import fakes

SLIDES = fakes.SLIDES[:1]


def draw(folder: Path, slides: tuple[str, ...] = SLIDES) -> tuple[list, pd.DataFrame]:
    paths = fakes.write_predictions(folder, slides=slides)["gate"]
    figure = point_labels.draw(gate=paths, point_images=fakes.write_point_images(folder / "p.parquet", slides), slides=slides)
    cells = pd.concat([pd.read_parquet(path).assign(slide=slide) for path, slide in zip(paths, slides, strict=True)])
    inside = cells["x_um"].between(1800, 2200, "left") & cells["y_um"].between(1000, 1400, "left")
    return figure.axes, cells[inside & (cells["label"] != "Unresolved")]


def marks(axes: object, marker: str) -> dict[str, np.ndarray]:
    """Return class → places of its marks of one kind."""
    lines = [line for line in axes.lines if line.get_marker() == marker]  # type: ignore[attr-defined]
    for line in lines:
        assert to_rgb(line.get_color()) == to_rgb(COLORS[line.get_gid()])
    return {line.get_gid(): np.column_stack(line.get_data()) for line in lines}


def test_every_labelled_cell_of_the_square_is_a_dot_and_a_cross_where_the_prediction_differs(tmp_path: Path) -> None:
    (left, right), cells = draw(tmp_path)
    assert len(cells) > 30
    is_right = cells["label"] == cells["predicted"]
    assert 0 < is_right.sum() < len(cells)
    assert not marks(left, "X")
    for axes, marker, part, column in (
        (left, "o", cells, "label"),
        (right, "o", cells[is_right], "predicted"),
        (right, "X", cells[~is_right], "predicted"),
    ):
        found = marks(axes, marker)
        assert set(found) == set(part[column])
        for name, places in found.items():
            own = part[part[column] == name]
            assert places == pytest.approx(own[["x_um", "y_um"]].to_numpy() - [1800, 1000])


def test_titles_count_the_cells_and_axes_have_y_downwards_and_a_scale_bar(tmp_path: Path) -> None:
    (left, right), cells = draw(tmp_path)
    n = (cells["label"] == cells["predicted"]).sum()
    assert left.get_title(loc="left") == f"{len(cells)} cells"
    assert right.get_title(loc="left") == f"{n} right, {100 * n / len(cells):.1f} %"
    assert left.get_xlim() == (0, 400)
    assert left.get_ylim() == (400, 0)
    (bar,) = [line for line in left.lines if line.get_gid() == "scale bar"]
    assert np.ptp(bar.get_xdata()) == 100


def test_each_image_shows_the_cells_of_its_slide(tmp_path: Path) -> None:
    axes, cells = draw(tmp_path, fakes.SLIDES)
    assert len(axes) == 6
    counts = [int(panel.get_title(loc="left").split()[0]) for panel in axes[::2]]
    assert counts == cells["slide"].value_counts()[list(fakes.SLIDES)].tolist()


def test_without_an_image_the_error_names_the_table(tmp_path: Path) -> None:
    write_table(pd.DataFrame(columns=[column.name for column in POINT_IMAGES.columns]), tmp_path / "p.parquet", POINT_IMAGES)
    with pytest.raises(UserError, match=r"p\.parquet: image: there is no image with a labelled cell"):
        point_labels.draw(gate=[], point_images=tmp_path / "p.parquet", slides=[])
