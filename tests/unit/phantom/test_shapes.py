import numpy as np
import pytest
from scipy.spatial import cKDTree


@pytest.mark.parametrize("name", ["cell_boundaries", "nucleus_boundaries"])
def test_polygons_are_closed_and_enclose_the_stated_area(slide, name):
    table, column = slide.table(name), "cell_area" if name == "cell_boundaries" else "nucleus_area"
    assert set(table.groupby("cell_id").size()) == {25}
    points = table[["vertex_x", "vertex_y"]].to_numpy(dtype=float).reshape(-1, 25, 2)
    assert (points[:, 0] == points[:, -1]).all()
    x, y = points[:, :-1, 0], points[:, :-1, 1]
    area = np.abs((x * np.roll(y, -1, 1) - y * np.roll(x, -1, 1)).sum(1)) / 2
    stated = slide.table("cells")[column].dropna().to_numpy()
    assert np.median(area / stated) == pytest.approx(0.985, abs=0.02)
    labels = table["label_id"].to_numpy().reshape(-1, 25)[:, 0]
    assert (np.diff(labels) > 0).all() and labels[0] >= 1


def test_nuclei_do_not_overlap(slide):
    table = slide.table("nucleus_boundaries")
    points = table[["vertex_x", "vertex_y"]].to_numpy(dtype=float)
    owner = np.repeat(np.arange(len(points) // 25), 25)
    pairs = cKDTree(points).query_pairs(0.1, output_type="ndarray")
    touching = {tuple(pair) for pair in np.sort(owner[pairs], axis=1) if pair[0] != pair[1]}
    assert len(touching) < 0.02 * owner[-1]
