import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from nuclass_pipeline.config.evaluation import Fractions, SplitConfig
from nuclass_pipeline.data.strips import SUBSETS, assign_subsets


def cells(count, width, height, seed):
    rng = np.random.default_rng(seed)
    return rng.uniform((0, 0), (width, height), (count, 2)), rng.choice(["T_Cell", "Fibroblast", "Unresolved"], count).astype(object)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), buffer_um=st.floats(0, 200), width=st.floats(800, 9000))
def test_subsets_are_at_least_a_buffer_apart(seed, buffer_um, width):
    xy_um, classes = cells(1500, width, 700, seed)
    subsets = assign_subsets(xy_um, classes, SplitConfig(band_um=2000), buffer_um)
    for first, second in (("train", "gate"), ("train", "val"), ("gate", "val")):
        distances = cdist(xy_um[subsets == first], xy_um[subsets == second], "chebyshev")
        assert distances.size == 0 or distances.min() >= buffer_um


def test_shares_of_labelled_cells_follow_the_fractions_without_a_buffer():
    xy_um, classes = cells(20000, 8000, 3000, 1)
    config = SplitConfig(fractions=Fractions(train=0.5, gate=0.2, val=0.3))
    labelled = classes != "Unresolved"
    subsets = assign_subsets(xy_um, classes, config, 0)[labelled]
    assert [round(float((subsets == subset).mean()), 2) for subset in SUBSETS] == [0.5, 0.2, 0.3]


def test_the_axis_that_keeps_every_class_in_every_subset_is_chosen():
    xy_um, _ = cells(3000, 1000, 1000, 2)
    classes = np.where(xy_um[:, 0] < 300, "T_Cell", "Fibroblast").astype(object)
    subsets = assign_subsets(xy_um, classes, SplitConfig(), 128)
    assert all(set(classes[subsets == subset]) == {"T_Cell", "Fibroblast"} for subset in SUBSETS)
