"""Types and confidences of cells from given probabilities, their support, and reasons of abstention, by hand."""

from dataclasses import replace

import numpy as np
from scipy import sparse

from nuclass_pipeline.knowledge.markers import Panel
from nuclass_pipeline.labeling.confidence import TypeAssignment, abstention_reasons, assign_types
from nuclass_pipeline.labeling.evidence import CellExpression, TypeProbabilities
from nuclass_pipeline.labeling.neighborhood import Neighborhood

TYPES = ("Fibroblast", "T_Cell", "Tumor_Associated_Fibroblast")


def alike(n: int) -> CellExpression:
    """Return cells that are all alike, so that only the probabilities differ."""
    x = sparse.csr_matrix(np.ones((n, 3)))
    others = (np.arange(n)[:, None] + np.arange(1, n)) % n
    neighbors = Neighborhood(others, np.ones(others.shape), 1.0)
    return CellExpression(Panel(TYPES, np.eye(3)), x, x.toarray(), neighbors, x, x.toarray(), np.zeros(3))


def test_confidence_is_the_geometric_mean_of_the_estimates():
    choice = np.array([[0.45, 0.1, 0.45], [0.31, 0.4, 0.29]])
    one = np.array([[0.4, 0.2, 0.4], [0.5, 0.3, 0.2]])
    two = np.array([[0.2, 0.2, 0.6], [0.9, 0.05, 0.05]])
    cells = alike(2)
    found = assign_types(cells, TypeProbabilities(choice, (one, two)))
    # Together the two kinds of fibroblast outweigh the T cell in both rows.
    assert [TYPES[i] for i in found.candidate] == ["Fibroblast", "Fibroblast"]
    assert found.purity.tolist() == [1, 1]
    np.testing.assert_allclose(found.confidence, np.sqrt([0.4 * 0.2, 0.5 * 0.9]))
    # Tumour-associated fibroblasts are fibroblasts, and both are the lineage here.
    np.testing.assert_allclose(found.broad_confidence, np.sqrt([0.8 * 0.8, 0.7 * 0.95]))
    np.testing.assert_allclose(found.lineage_confidence, np.sqrt([0.8 * 0.8, 0.7 * 0.95]))
    np.testing.assert_allclose(found.margin, [0, 0.2])
    np.testing.assert_allclose(found.lineage_margin, [0.6, 0.4])


def test_query_cells_are_compared_with_the_assignment_of_the_slide():
    choice = np.array([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0], [0.8, 0.2, 0.0]])
    slide = assign_types(alike(3), TypeProbabilities(choice, (choice,)))
    assert slide.purity.tolist() == [0.5, 0, 0.5]
    query = replace(alike(1), neighbors=Neighborhood(np.array([[0, 0, 1, 2]]), np.array([[1.0, 1.0, 0.5, 0.5]]), 1.0))
    found = assign_types(query, TypeProbabilities(choice[:1], (choice[:1],)), slide=slide)
    assert found.purity.tolist() == [2.5 / 3]


def test_other_lineages_lead_to_another_choice():
    choice = np.array([[0.3, 0.4, 0.3], [0.3, 0.4, 0.3]])
    probabilities = TypeProbabilities(choice, (choice,))
    assert assign_types(alike(2), probabilities).candidate.tolist() == [0, 0]
    assert assign_types(alike(2), probabilities, lineages=("a", "b", "c")).candidate.tolist() == [1, 1]


def test_a_cell_whose_lineage_alone_is_sure_has_the_reason_lineage_only():
    sure, unsure = 0.9, 0.3
    leaf = np.array([sure, unsure, unsure, unsure])
    lineage = np.array([sure, sure, unsure, sure])
    rest = np.ones(4)
    found = abstention_reasons(
        TypeAssignment(
            np.array([0, 0, 0, 1]), np.zeros(4, int), leaf, leaf, lineage, rest, rest, rest, rest, np.array([1, 1, 1, 0.2]), rest
        ),
        0.6,
    )
    assert found == [None, "lineage only", "conflicting lineages", "weak support"]


PANEL = Panel((*TYPES, "Macrophage"), np.eye(4))


def test_confidence_is_in_proportion_to_support_and_0_below_the_null():
    ones = np.ones(5)
    assignment = TypeAssignment(np.array([0, 1, 2, 3, 0]), np.array([0, 1, 0, 2, 0]), *[ones] * 9)
    support = np.array([0.6, 0.4, 0.1, 0.1])
    found = assignment.downweighted(PANEL, support, 0.2, np.array([True, True, True, True, False]))
    # The last cell shows no marker at all.
    assert found.confidence.tolist() == [1, 0.8, 0, 0, 0]
    # A tumour-associated fibroblast is as sure a fibroblast as other fibroblasts are.
    assert found.broad_confidence.tolist() == found.lineage_confidence.tolist() == [1, 0.8, 1, 0, 0]
    assert found.support.tolist() == [0.6, 0.4, 0.1, 0.1, 0.6]
    assert found.broad_support.tolist() == [0.6, 0.4, 0.6, 0.1, 0.6]
    assert assignment.confidence.tolist() == [1, 1, 1, 1, 1]


def unsure() -> TypeAssignment:
    """Return three tumour-associated fibroblasts: one that is sure, one that is surely a fibroblast, and one that is neither."""
    high, low, rest = 0.9, 0.3, np.ones(3)
    leaf, broad = np.array([high, low, low]), np.array([high, high, low])
    margin, broad_margin = np.full(3, 0.1), np.full(3, 0.7)
    return TypeAssignment(
        np.array([2, 2, 2]), np.zeros(3, int), leaf, broad, broad, margin, broad_margin, rest, rest, 0.4 * rest, 0.8 * rest
    )


def test_a_cell_whose_containing_type_alone_is_sure_is_of_that_type():
    found = unsure().broadened(PANEL, 0.6, TYPES)
    assert [TYPES[i] for i in found.candidate] == ["Tumor_Associated_Fibroblast", "Fibroblast", "Tumor_Associated_Fibroblast"]
    assert found.confidence.tolist() == [0.9, 0.9, 0.3]
    assert found.margin.tolist() == [0.1, 0.7, 0.1]
    assert found.support.tolist() == [0.4, 0.8, 0.4]


def test_only_classes_of_the_study_are_chosen_instead_of_a_type():
    without_contained = unsure().broadened(PANEL, 0.6, ("Fibroblast", "T_Cell"))
    assert [TYPES[i] for i in without_contained.candidate] == ["Fibroblast", "Fibroblast", "Tumor_Associated_Fibroblast"]
    without_containing = unsure().broadened(PANEL, 0.6, ("Tumor_Associated_Fibroblast", "T_Cell"))
    assert without_containing.candidate.tolist() == [2, 2, 2]
    assert without_containing.confidence.tolist() == [0.9, 0.3, 0.3]
