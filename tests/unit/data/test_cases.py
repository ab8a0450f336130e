"""Whole cases go to subsets, near the fractions in every class."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nuclass_pipeline.data.cases import assign_cases

SHARES = np.array([0.7, 0.15, 0.15])


@pytest.mark.parametrize("seed", range(5))
def test_each_class_is_near_the_fractions(seed):
    counts = np.random.default_rng(seed).poisson(60, (40, 3)) + 1
    subsets = assign_cases(counts, SHARES)
    for subset, share in enumerate(SHARES):
        np.testing.assert_allclose(counts[subsets == subset].sum(axis=0) / counts.sum(axis=0), share, atol=0.03)
    assert (assign_cases(counts, SHARES) == subsets).all()


def test_three_cases_fill_three_subsets():
    assert sorted(assign_cases(np.array([[500, 1], [2, 3], [1, 0]]), SHARES)) == [0, 1, 2]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 9)), min_size=6, max_size=16), st.integers(1, 2))
def test_every_case_is_in_one_subset_and_each_subset_has_enough(counts, least):
    subsets = assign_cases(np.array(counts), SHARES, least)
    assert len(subsets) == len(counts) and set(subsets) == {0, 1, 2}
    assert np.bincount(subsets).min() >= least
