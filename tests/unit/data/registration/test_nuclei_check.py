import numpy as np
import pytest
import tifffile

from nuclass_pipeline.config.image import RegistrationConfig, SegmentationConfig
from nuclass_pipeline.config.synthetic import SyntheticConfig
from nuclass_pipeline.data.alignment import Alignment, read_alignment
from nuclass_pipeline.data.image.slide import HeImage
from nuclass_pipeline.data.registration.correlation import ShiftFit
from nuclass_pipeline.data.registration.nuclei_check import NucleiCheck, check_nuclei
from nuclass_pipeline.data.registration.verdict import run_nuclei_check
from nuclass_pipeline.data.segmentation.methods import make_segmenter
from nuclass_pipeline.data.xenium.read import read_cell_table
from nuclass_pipeline.phantom import make_slide
from nuclass_pipeline.units import Micron

CONFIG = RegistrationConfig()


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """A synthetic slide: its H&E, its true alignment, and the cells' centroids in µm."""
    folder = tmp_path_factory.mktemp("phantom")
    files = {name: folder / file for name, file in {"manifest": "outs/experiment.xenium", "image": "he.tif", "alignment": "a.csv"}.items()}
    make_slide(organ="lung", seed=5, config=SyntheticConfig(cells=1500), truth=folder / "truth.parquet", **files)
    cells = read_cell_table(folder / "outs")
    return files["image"], read_alignment(files["alignment"], 0.2125), Micron(cells[["x_centroid", "y_centroid"]].to_numpy(dtype=float))


@pytest.mark.parametrize("shift_um", [(0, 0), (3, -2), (0, 8), (-14, 6)])
def test_the_nuclei_find_a_planted_shift(phantom, shift_um):
    image, sound, centroids = phantom
    matrix = sound.matrix.copy()
    matrix[:2, 2] += np.array(shift_um) / 0.2125
    moved = Alignment(matrix, 0.2125)
    needed_um = ((sound.to_he(centroids) - moved.to_he(centroids)) * sound.mpp_he).mean(axis=0)
    with HeImage(image) as he:
        check = check_nuclei(he, moved, centroids, make_segmenter(SegmentationConfig(), sound.mpp_he, gpu=False), 6, CONFIG.search_um)
    assert check.windows == 6
    assert check.nuclei > 500
    assert check.fit.is_clear
    assert check.fit.shift_um == pytest.approx(needed_um, abs=1)


def test_cells_of_another_slide_are_not_clear(phantom):
    image, mapping, centroids = phantom
    high = centroids.max(axis=0)
    other = Micron(np.random.default_rng(1).uniform(0, high, centroids.shape))
    with HeImage(image) as he:
        check = run_nuclei_check(he, mapping, other, CONFIG, SegmentationConfig(), gpu=False)
    assert not check.fit.is_clear
    assert not check.contradicts(ShiftFit((30.0, 30.0), 0.5, 0.5, 0.1), 5)


def test_an_image_without_nuclei_is_not_clear(tmp_path):
    tifffile.imwrite(tmp_path / "he.tif", np.full((600, 600, 3), 240, np.uint8), photometric="rgb", tile=(256, 256))
    xy_um = Micron(np.random.default_rng(0).uniform(0, 120, (50, 2)))
    with HeImage(tmp_path / "he.tif") as he:
        check = run_nuclei_check(he, Alignment(np.eye(3), 0.2125), xy_um, CONFIG, SegmentationConfig(), gpu=False)
        assert (
            run_nuclei_check(he, Alignment(np.eye(3), 0.2125), xy_um, RegistrationConfig(windows=0), SegmentationConfig(), gpu=False)
            is None
        )
    assert (check.windows, check.nuclei, check.fit.is_clear) == (1, 0, False)


def test_the_nuclei_contradict_only_if_they_are_clear_and_far_from_the_haematoxylin():
    def by_nuclei(x_um, y_um, chance=0.1):
        return NucleiCheck(6, 900, ShiftFit((x_um, y_um), 0.2, 0.5, chance))

    by_haematoxylin = ShiftFit((1.0, 0.0), 0.4, 0.5, 0.1)
    assert not by_nuclei(3.0, 3.0).contradicts(by_haematoxylin, 5)
    assert by_nuclei(5.0, 4.0).contradicts(by_haematoxylin, 5)
    assert not by_nuclei(5.0, 4.0, chance=0.3).contradicts(by_haematoxylin, 5)
