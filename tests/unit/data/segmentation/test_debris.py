"""Objects that are not nuclei, named by what gives them away."""

import numpy as np
import pandas as pd
import pytest
from skimage.draw import disk, polygon
from skimage.draw import ellipse as filled_ellipse

from nuclass_pipeline.data.segmentation.debris import describe_debris, find_debris, outside_of

MPP = 0.25
EOSIN, NUCLEUS, GLASS = (225, 160, 195), (110, 80, 150), (244, 244, 244)


def tile(area, color=NUCLEUS, around=EOSIN):
    pixels, labels = np.full((120, 120, 3), around, np.uint8), np.zeros((120, 120), np.int32)
    labels[area] = 7
    pixels[area] = color
    return pixels, labels


STAR = polygon(
    *np.transpose(
        [(60 + r * np.sin(a), 60 + r * np.cos(a)) for a, r in zip(np.linspace(0, 2 * np.pi, 12, endpoint=False), [26, 7] * 6, strict=True)]
    )
)
CASES = {
    "": (disk((60, 60), 12),),
    "small": (disk((60, 60), 4),),
    "narrow": (filled_ellipse(60, 60, 2.5, 40),),
    "faint": (disk((60, 60), 12), (205, 145, 185)),
    "ragged": (STAR,),
    "of another color": (disk((60, 60), 12), (40, 110, 110)),
    "black": (disk((60, 60), 12), (2, 1, 3)),
    "a flake on glass": (disk((60, 60), 12), (45, 20, 70), GLASS),
    "a nucleus beside glass": (disk((60, 60), 12), NUCLEUS, GLASS),
}
NAMES = {"narrow": "small", "a nucleus beside glass": ""}


@pytest.mark.parametrize("case", CASES)
def test_each_kind_of_debris_is_found(case):
    assert find_debris(*tile(*CASES[case]), MPP).get(7, "") == NAMES.get(case, case)


def test_a_nucleus_among_others_is_compared_with_what_is_not_a_nucleus():
    pixels, labels = tile(disk((60, 60), 12))
    for number, (y, x) in enumerate([(60, 84), (60, 36), (84, 60), (36, 60)], start=8):
        pixels[disk((y, x), 12)], labels[disk((y, x), 12)] = NUCLEUS, number
    assert find_debris(pixels, labels, MPP) == {}


def test_points_outside_the_mask():
    tissue = np.zeros((4, 6), bool)
    tissue[1:3, 2:5] = True
    points = np.array([(2.5, 1.5), (4.9, 2.9), (1.9, 1.5), (5.5, 0.5), (6.0, 4.0), (-1, 2)])
    assert outside_of(tissue, points).tolist() == [False, False, True, True, True, True]


def test_counts_and_what_looks_wrong_are_sentences():
    assert describe_debris(pd.Series([""] * 900), 1.0) == []
    some = pd.Series(["small"] * 30 + ["black"] * 5 + [""] * 965)
    assert describe_debris(some, 1.0) == ["35 of 1,000 objects were dropped: 30 small, 5 black"]
    many = describe_debris(pd.Series(["small"] * 400 + [""] * 600), 1.0)
    assert many[1] == "40 % of the objects are not nuclei, and more may be: look at nuclei.png"
    for tissue_mm2, density in ((20.0, "45"), (0.05, "18,000")):
        (odd,) = describe_debris(pd.Series([""] * 900), tissue_mm2)
        assert odd.startswith(f"{density} nuclei per mm² of tissue are unlikely")
