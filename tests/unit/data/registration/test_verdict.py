"""One verdict with its reason, from what was measured."""

from dataclasses import replace

import numpy as np
import pytest

from nuclass_pipeline.data.registration.affine import AffineFit
from nuclass_pipeline.data.registration.colors import NuclearContrast
from nuclass_pipeline.data.registration.correlation import ShiftFit
from nuclass_pipeline.data.registration.fit import RegistrationFit
from nuclass_pipeline.data.registration.nuclei_check import NucleiCheck
from nuclass_pipeline.data.registration.verdict import Examination

WHOLE = ShiftFit((0.6, 0.8), 0.5, 0.6, 0.1)
FIT = RegistrationFit(WHOLE, ())
SOUND = Examination(1.0, FIT, NuclearContrast(0.3, 0.3, 0.1), NucleiCheck(4, 500, WHOLE), 5.0)
TURNED = AffineFit(np.array([[0, -0.035], [0.035, 0]]), np.zeros(2), np.zeros(2))


def test_a_sound_slide_is_good_without_a_reason():
    assert (SOUND.verdict, SOUND.reason, SOUND.warnings) == ("good", "", [])


DOUBTS = {
    "outside": (replace(SOUND, inside=0.49), "only 49 % of the cells lie on the H&E, at least 50 % are needed"),
    "colors": (replace(SOUND, contrast=NuclearContrast(0.1, 0.3, 0.3)), "nuclei absorb blue (0.30) more than red (0.10)"),
    "chance": (
        replace(SOUND, fit=replace(FIT, whole=replace(WHOLE, correlation_chance=0.31))),
        "correlation 0.60 with the cells, 0.31 by chance, at least 0.1 and twice that by chance are needed",
    ),
    "blank": (replace(SOUND, fit=replace(FIT, matched=0.66)), "only 66 % of the cells lie on tissue with nuclei in the same places"),
    "nuclei": (
        replace(SOUND, nuclei=NucleiCheck(4, 500, replace(WHOLE, shift_um=(6.0, 0.0)))),
        "by haematoxylin the cells are shifted by (0.6, 0.8) µm, by the nuclei found on it (6.0, 0.0)",
    ),
}


@pytest.mark.parametrize("name", DOUBTS)
def test_each_doubt_alone_makes_a_good_slide_unclear_with_its_numbers(name):
    found, reason = DOUBTS[name]
    assert found.verdict == "unclear"
    assert found.reason.startswith(reason)


def test_few_cells_that_fit_are_warnings_of_a_good_slide():
    inside, matched = replace(SOUND, inside=0.949), replace(SOUND, fit=replace(FIT, matched=0.835))
    assert (inside.verdict, matched.verdict) == ("good", "good")
    assert inside.warnings == ["only 94.9 % of the cells lie on the H&E: it may be cut, or belong to a part of the slide"]
    assert matched.warnings == ["only 83.5 % of the cells match nuclei: part of the H&E may be missing or of another place"]
    assert replace(SOUND, inside=0.95, fit=replace(FIT, matched=0.95)).warnings == []


def test_each_reason_against_a_slide_is_one_warning():
    found = replace(SOUND, inside=0.49, fit=replace(FIT, matched=0.66, affine=TURNED))
    assert [warning.split(" of the cells")[0] for warning in found.warnings[:2]] == ["only 49 %", "only 66 %"]
    assert found.warnings[0] == found.reason
    assert found.warnings[2:] == [found.fit.warn()]


def test_a_shift_comes_before_doubts():
    found = replace(SOUND, inside=0.4, fit=replace(FIT, whole=replace(WHOLE, shift_um=(6.0, 8.0))))
    assert (found.verdict, found.reason) == ("shifted", "the H&E lies 10.0 µm off the nuclei")


def test_a_turned_slide_is_shifted_by_the_share_of_its_cells():
    fit = replace(FIT, affine=TURNED, shifted_cells=0.42)
    found = replace(SOUND, fit=fit)
    assert found.verdict == "shifted"
    assert found.reason == ("the H&E is turned by 2.0° and strained by 0.0 % against the nuclei: 42 % of the cells lie more than 5 µm off")
    allowed = replace(SOUND, fit=replace(fit, shifted_cells=0.2))
    assert (allowed.verdict, allowed.fit.warn()) == (
        "good",
        "the cells fit the H&E best turned by 2.0° and strained by 0.0 %; align it again if it matters at its edges",
    )


def test_too_few_cells_for_a_turn_are_a_warning_with_their_number():
    found = replace(SOUND, fit=replace(FIT, few_cells=120))
    unseen = "at least 150 are needed to measure a turn or shear, which may stay unseen"
    assert found.verdict == "good"
    assert found.warnings == [f"only 120 cells lie in tissue with nuclei in the same places, and {unseen}"]


def test_without_the_nuclei_check_nothing_is_missing():
    assert replace(SOUND, nuclei=None).verdict == "good"
