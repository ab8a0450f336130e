"""Cells and their surroundings: the three built-in facts, and classes in every strip of a slide."""

import numpy as np
import pytest

from nuclass_pipeline.phantom.classes import Look
from nuclass_pipeline.phantom.layout import MARGIN_UM
from nuclass_pipeline.phantom.programs import read_programs
from nuclass_pipeline.phantom.tissue import GLAND_CLASS, GRANULAR_CLASS, LINING_CLASS
from tests.unit.phantom.slides import (
    CLASSES,
    CONFIG,
    DEMO,
    KINDS,
    ORGAN_PAIRS,
    PAIRS,
    PARENCHYMA,
    UNIQUE_KINDS,
    auc,
    composition,
    fit_rule,
    lay,
)


def test_cells_are_those_of_the_written_slides(slide):
    _, cells = lay(slide.organ, 5, CONFIG.cells)
    assert (cells.label == slide.truth["label"]).all()
    assert (cells.niche == slide.truth["niche"]).all()
    assert np.abs(cells.xy_um - slide.table("cells")[["x_centroid", "y_centroid"]]).max(axis=None) < 10


@pytest.mark.parametrize("pair", PAIRS)
def test_the_context_separates_the_pairs_but_the_crop_does_not(tissue, pair):
    _, cells = tissue
    chosen = np.isin(cells.label, pair)
    tumour = cells.label[chosen] == pair[1]
    offset = np.abs(cells.xy_um[:, None] - cells.xy_um[chosen]).max(2)
    kinds = cells.label == "Epithelial_Malignant", np.isin(cells.label, PARENCHYMA)

    def excess(reach_um: float) -> np.ndarray:
        return ((offset < reach_um) & kinds[0][:, None]).sum(0) - ((offset < reach_um) & kinds[1][:, None]).sum(0)

    assert auc(excess(128.0), tumour) > 0.94
    # Not 0.5, because a fifth of the cells have an island's rim in a corner of the crop.
    assert auc(excess(28.0), tumour) < 0.71
    assert ((offset < 28.0) & (kinds[0] | kinds[1])[:, None]).any(0).mean() < 0.22
    density = ((offset < 28.0) & ~(kinds[0] | kinds[1])[:, None]).sum(0)
    assert 0.4 < auc(density, tumour) < 0.6


@pytest.mark.parametrize("pair", PAIRS)
def test_a_rule_for_the_pairs_fitted_on_other_slides_needs_the_context(demo, key, pair):
    stroma = [kind for kind in UNIQUE_KINDS if kind not in [KINDS[name] for name in (*PARENCHYMA, "Epithelial_Malignant")]]

    def score(reach_um: float, kinds: list[Look]) -> float:
        parts = {}
        for name, (_, cells) in demo.items():
            chosen = np.isin(cells.label, pair)
            parts[name] = composition(cells, chosen, reach_um, kinds), cells.label[chosen] == pair[1]
        others = [part for name, part in parts.items() if name != key]
        rule = fit_rule(*(np.concatenate(columns) for columns in zip(*others, strict=True)))
        return auc(parts[key][0] @ rule, parts[key][1])

    context, crop = score(128.0, UNIQUE_KINDS), score(28.0, UNIQUE_KINDS)
    assert context > 0.92
    assert crop < 0.83
    assert context - crop > 0.1
    assert 0.4 < score(28.0, stroma) < 0.77


def test_every_class_is_frequent_at_full_size(tissue):
    layout, cells = tissue
    labels, counts = np.unique(cells.label, return_counts=True)
    assert labels.tolist() == CLASSES[layout.organ].split()
    assert len(cells) == 2500
    assert counts.min() >= 75
    assert counts.max() <= 0.2 * len(cells)


def test_every_strip_holds_every_class(tissue):
    layout, cells = tissue
    for axis in (0, 1):
        place = (cells.xy_um[:, axis] - MARGIN_UM) / layout.size_um[axis]
        for start in np.linspace(0, 2 / 3, 9):
            labels, counts = np.unique(cells.label[(place >= start) & (place < start + 1 / 3)], return_counts=True)
            assert (len(labels), bool(counts.min() >= 14)) == (12, True), (axis, start, labels[counts.argmin()])


def test_organs_differ_in_the_names_of_three_classes_alone(demo):
    assert [(names["lung"], names["pancreas"]) for names in (GLAND_CLASS, GRANULAR_CLASS, LINING_CLASS)] == list(ORGAN_PAIRS)
    lung, pancreas = (set(CLASSES[organ].split()) for organ in ("lung", "pancreas"))
    assert (lung - pancreas, pancreas - lung) == tuple(set(names) for names in zip(*ORGAN_PAIRS, strict=True))
    programs = read_programs()
    for pair in ORGAN_PAIRS:
        common = set(programs[pair[0]]) & set(programs[pair[1]])
        assert all(sum(programs[name][gene] for gene in common) < 0.25 * sum(programs[name].values()) for name in pair)
    kinds = {frozenset((KINDS[label], niche) for label, niche in zip(cells.label, cells.niche, strict=True)) for _, cells in demo.values()}
    assert len(kinds) == 1
    assert {frozenset(kind for discs in layout.discs for kind in discs.kind) for layout, _ in demo.values()} == {
        frozenset({"arteriole", "vessel", "lumen"})
    }


@pytest.mark.parametrize("pair", ORGAN_PAIRS)
def test_the_surroundings_do_not_show_the_organ(demo, pair):
    def gather(keys: tuple[tuple[str, int], ...], reach_um: float) -> tuple[np.ndarray, np.ndarray]:
        parts = []
        for organ, seed in keys:
            _, cells = demo[organ, seed]
            chosen = np.isin(cells.label, pair)
            parts.append((composition(cells, chosen, reach_um, UNIQUE_KINDS), np.full(chosen.sum(), organ == "pancreas")))
        features, pancreas = zip(*parts, strict=True)
        return np.concatenate(features), np.concatenate(pancreas)

    for known, new in ((DEMO[::2], DEMO[1::2]), (DEMO[1::2], DEMO[::2])):
        # More over 128 µm, because a rule can use that these two slides of one organ have more nests.
        for reach_um, most in ((28.0, 0.6), (128.0, 0.78)):
            features, pancreas = gather(new, reach_um)
            assert auc(features @ fit_rule(*gather(known, reach_um)), pancreas) < most
