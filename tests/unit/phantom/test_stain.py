import numpy as np
import tifffile

from tests.unit.phantom.slides import redness


def test_dapi_shows_the_nuclei(slide):
    image = tifffile.imread(slide.outs / "morphology_focus" / "morphology_focus_0000.ome.tif")
    cells = slide.table("cells")[["x_centroid", "y_centroid"]].to_numpy()
    column, row = np.round(cells / 0.2125).astype(int).T
    assert np.median(image[row, column]) > 5 * np.median(image)


def test_glass_surrounds_the_tissue(slide):
    corner = np.array([[5.0, 5.0], [30.0, 20.0]])
    assert redness(slide, corner).max() < 0.05
    cells = slide.table("cells")
    assert cells["x_centroid"].min() > 50 and cells["y_centroid"].min() > 50
