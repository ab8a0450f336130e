from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.figures import attribution
from tests.unit.figures import fakes


def test_the_heat_map_is_drawn_over_the_crop(tmp_path: Path) -> None:
    path = fakes.write_attribution(tmp_path / "a.parquet", cells=4)
    figure = attribution.draw(attribution=path, columns=3)
    first = pd.read_parquet(path).iloc[0]
    grid = np.array(figure.axes).reshape(2, 4, -1)
    assert [len(axes.images) for axes in grid[0, :, 0]] == [1, 2, 1, 2]
    np.testing.assert_allclose(grid[0, 1, 0].images[1].get_array().ravel(), first["heat"])
    assert grid[0, 0, 0].images[0].get_array().shape == (112, 112, 3)
    assert grid[0, 0, 0].get_title() in {"Malignant ✓", "Macrophage ✗"}
    assert not grid[0, 0, 3].images


def test_a_table_without_cells_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    path = fakes.write_attribution(tmp_path / "a.parquet", cells=1)
    pd.read_parquet(path).iloc[:0].to_parquet(path)
    with pytest.raises(UserError, match="explained_cells"):
        attribution.draw(attribution=path)
