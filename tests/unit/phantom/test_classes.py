import pytest

from nuclass_pipeline.phantom.classes import LOOKS
from tests.unit.phantom.slides import KINDS, ORGAN_PAIRS, PAIRS, UNIQUE_KINDS


@pytest.mark.parametrize("pair", PAIRS)
def test_pairs_share_their_look(pair):
    assert LOOKS[pair[0]] is LOOKS[pair[1]]


@pytest.mark.parametrize("pair", ORGAN_PAIRS)
def test_pairs_of_two_organs_differ_a_little_in_size(pair):
    assert KINDS[pair[0]] == KINDS[pair[1]]
    assert [LOOKS[name].size for name in pair] == [1.04, 0.96]


def test_all_other_classes_have_looks_of_their_own():
    assert len(LOOKS) == 15
    assert len(UNIQUE_KINDS) == 15 - len(PAIRS) - len(ORGAN_PAIRS)
