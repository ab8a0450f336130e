import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.stats import norm

from tests.unit.phantom.slides import NEIGHBORS, ORGAN_PAIRS, auc, nuclei


@pytest.mark.parametrize("pair", ORGAN_PAIRS)
def test_a_nucleus_shows_the_organ_in_about_two_of_three_cells(slides, pair):
    found = []
    for organ, name in zip(("lung", "pancreas"), pair, strict=True):
        points, density, ring = nuclei(slides[organ], [name])
        area = slides[organ].table("cells").set_index("cell_id").loc[points.index, "nucleus_area"].to_numpy()
        # Relative to the mean, because stains differ in strength from slide to slide.
        found.append((density[:, ring].std(1) / density.mean(1), area))
    pancreas = np.repeat([False, True], [len(one[0]) for one in found])
    grain, area = (auc(np.concatenate(values), pancreas) for values in zip(*found, strict=True))
    # Not 0.5, because a smaller nucleus shows more of its edge in the same 2 µm.
    assert 0.2 < grain < 0.8
    # Expected for two normal distributions 2 ln(1.04 / 0.96) apart, with a deviation of 2 × 0.09.
    assert area == pytest.approx(1 - norm.cdf(np.log(1.04 / 0.96) / (0.09 * np.sqrt(2))), abs=0.08)
    assert found[0][1].mean() / found[1][1].mean() == pytest.approx((1.04 / 0.96) ** 2, rel=0.08)


@pytest.mark.parametrize(("organ", "pair"), NEIGHBORS)
def test_neighbors_share_their_places_and_cell_sizes(slides, organ, pair):
    slide = slides[organ]
    xy, label = slide.table("cells")[["x_centroid", "y_centroid"]].to_numpy(), slide.truth["label"].to_numpy()
    cells = np.flatnonzero(np.isin(label, pair))
    _, nearest = cKDTree(xy[cells]).query(xy[cells], k=5)
    same = (label[cells][nearest[:, 1:]] == label[cells][:, None]).mean()
    share = (label[cells] == pair[0]).mean()
    assert same == pytest.approx(share**2 + (1 - share) ** 2, abs=0.15)
    area = slide.table("cells")["cell_area"].to_numpy()
    assert area[label == pair[0]].mean() == pytest.approx(area[label == pair[1]].mean(), rel=0.2)


@pytest.mark.parametrize(("organ", "pair"), NEIGHBORS)
def test_only_the_grain_of_the_nucleus_separates_neighbors(slides, organ, pair):
    slide = slides[organ]
    points, density, ring = nuclei(slide, list(pair))
    second = slide.truth.set_index("cell_id").loc[points.index, "label"].to_numpy() == pair[1]
    assert auc(density[:, ring].std(1), second) > 0.95
    assert 0.25 < auc(density.mean(1), second) < 0.75
