import numpy as np
from scipy.spatial import cKDTree

from nuclass_pipeline.phantom.layout import NEST, NORMAL, STROMA
from nuclass_pipeline.phantom.tissue import DEEP_UM, GLAND_CLASS, GRANULAR_CLASS
from tests.unit.phantom.slides import PAIRS, PARENCHYMA


def test_islands_lie_in_stroma(tissue):
    layout, cells = tissue
    spacing = cKDTree(layout.islands.centers_um).query(layout.islands.centers_um, k=2)[0][:, 1]
    assert len(layout.tumour) == 18
    assert 6 <= layout.tumour.sum() <= 12
    assert spacing.min() > 135 and spacing.max() < 195
    region, depth, tumour = layout.regions(cells.xy_um)
    assert (region[cells.label == "Epithelial_Malignant"] == NEST).all()
    glands = np.isin(cells.label, [GLAND_CLASS[layout.organ], GRANULAR_CLASS[layout.organ]])
    assert (region[glands] == NORMAL).all()
    assert not tumour[np.isin(cells.label, PARENCHYMA)].any()
    fibroblasts = np.isin(cells.label, PAIRS[0])
    assert (region[fibroblasts] == STROMA).all() and depth[fibroblasts].min() >= DEEP_UM
    assert layout.clear(cells.xy_um[fibroblasts]).all()
    endothelium = np.isin(cells.label, PAIRS[1])
    assert (region[endothelium] == STROMA).all() and depth[endothelium].min() > 20
    assert layout.clear(cells.xy_um[endothelium]).mean() > 0.9
    for pair in PAIRS:
        chosen = np.isin(cells.label, pair)
        assert (tumour[chosen] == (cells.label[chosen] == pair[1])).all()
