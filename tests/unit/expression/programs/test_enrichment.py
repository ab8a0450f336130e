"""Enrichment against exact counts, published values, a plain running sum, and data without signal."""

from decimal import Decimal
from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from nuclass_pipeline.expression.programs.enrichment import WEIGHT, over_representation, rank_enrichment, reliable, sets_on_panel, strength
from nuclass_pipeline.expression.programs.library import GeneSet

PANEL = [f"P{i:03d}" for i in range(480)]
MARKERS = PANEL[:20]
FDR, OVERLAP = 0.05, 3

# The 40 scores are all different; ES by GSEApy 1.3.1, prerank(weight=0.5), of four sets of them.
TOY = np.array([round(((i * 37) % 41 - 20) * 1.5 + 0.1 * i, 3) for i in range(40)])
TOY_GENES = [f"G{i:02d}" for i in range(40)]
TOY_SETS = {
    "first": (TOY_GENES[:5], 0.373827),
    "top": ([TOY_GENES[i] for i in np.argsort(-TOY)[[0, 1, 3, 5, 8, 30]]], 0.759369),
    "bottom": ([TOY_GENES[i] for i in np.argsort(TOY)[[0, 1, 3, 5, 8, 30]]], -0.727089),
    "spread": (TOY_GENES[10:31:3], -0.258534),
}


def a_set(genes, term="s"):
    return GeneSet(term, term, frozenset(genes))


def overlapping(k, size):
    return a_set(PANEL[:k] + PANEL[100 : 100 + size - k], f"{k}/{size}")


def in_order(sets, scores, genes, **changes):
    arguments = {"permutations": 4000, "fdr": FDR, "seed": 0} | changes
    return rank_enrichment(sets, np.atleast_2d(np.asarray(scores, dtype=float)), genes, **arguments)


@pytest.mark.parametrize(
    ("k", "size", "published"),
    [
        (7, 12, "4.87472e-8"),
        (5, 9, "8.4424e-6"),
        (4, 4, "2.2181e-6"),
        (3, 3, "6.2237e-5"),
        (2, 2, "1.65275e-3"),
        (2, 3, "4.834e-3"),
        (2, 4, "9.43e-3"),
        (2, 5, "1.53e-2"),
        (2, 6, "2.24e-2"),
        (2, 7, "3.06e-2"),
        (4, 6, "3.150571649373e-5"),
    ],
)
def test_twenty_markers_of_480_genes(k, size, published):
    """Published p values to their last digit; the last is GSEApy 1.3.1's."""
    (hit,) = over_representation([overlapping(k, size)], MARKERS, 480)
    last_digit = 10.0 ** Decimal(published).as_tuple().exponent
    assert hit.p == pytest.approx(float(published), rel=0, abs=last_digit / 2)
    assert hit.p == pytest.approx(hypergeom.sf(k - 1, 480, size, 20), rel=1e-12)
    assert hit.statistic == pytest.approx((k / 20) / (size / 480))
    assert hit.genes == tuple(MARKERS[:k])


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_p_is_the_exact_count_of_draws(data):
    n = data.draw(st.integers(6, 60))
    size, drawn = data.draw(st.integers(1, n - 1)), data.draw(st.integers(1, n))
    k = data.draw(st.integers(max(0, size + drawn - n), min(size, drawn)))
    genes = [f"g{i}" for i in range(n)]
    one = a_set(genes[:k] + genes[drawn : drawn + size - k])
    exact = Fraction(sum(comb(size, i) * comb(n - size, drawn - i) for i in range(k, min(size, drawn) + 1)), comb(n, drawn))
    assert over_representation([one], genes[:drawn], n)[0].p == pytest.approx(float(exact), rel=1e-9)


def test_gseapy_agrees():
    gseapy = pytest.importorskip("gseapy")
    for k, size in ((7, 12), (5, 9), (3, 3), (4, 6)):
        one = overlapping(k, size)
        table = gseapy.enrich(MARKERS, gene_sets={"s": sorted(one.genes)}, background=PANEL, outdir=None).results
        assert over_representation([one], MARKERS, 480)[0].p == pytest.approx(float(table["P-value"].iloc[0]), rel=1e-9)


def test_q_counts_every_eligible_set_whether_hit_or_not():
    missed = [a_set(PANEL[50 + i : 60 + i], f"missed {i}") for i in range(99)]
    hits = over_representation([overlapping(5, 9), *missed], MARKERS, 480)
    assert hits[0].q == pytest.approx(100 * hits[0].p)
    assert hits[0].q == pytest.approx(100 * 8.4424e-6, rel=1e-4)
    assert {hit.q for hit in hits[1:]} == {1.0}


def test_q_is_that_of_benjamini_and_hochberg():
    hits = over_representation([overlapping(k, size) for k, size in ((7, 12), (5, 9), (3, 9), (2, 7), (0, 8))], MARKERS, 480)
    p = [hit.p for hit in hits]
    assert [hit.q for hit in hits] == pytest.approx([min(p[j] * 5 / (j + 1) for j in range(i, 5)) for i in range(5)])


def test_eligible_sets_have_five_genes_on_the_panel_and_not_all():
    library = [a_set([*PANEL[:n], "elsewhere"], str(n)) for n in (4, 5, 200, 201)]
    assert [(one.term, len(one.genes)) for one in sets_on_panel(library, set(PANEL), 5, 200)] == [("5", 5), ("200", 200)]
    assert not sets_on_panel([a_set(PANEL[:6])], set(PANEL[:6]), 5, 200)


def plain_score(scores, genes, members):
    """Compute ES by a walk down the ranked genes."""
    total, n = sum(abs(s) ** WEIGHT for s, g in zip(scores, genes, strict=True) if g in members), len(genes) - len(members)
    level, levels = 0.0, [0.0]
    for score, gene in sorted(zip(scores, genes, strict=True), key=lambda pair: (-pair[0], pair[1])):
        level += abs(score) ** WEIGHT / total if gene in members else -1 / n
        levels.append(level)
    return max(levels) if max(levels) >= -min(levels) - 1e-9 else min(levels)


def test_the_running_sum_is_that_of_gseapy():
    for members, published in TOY_SETS.values():
        assert plain_score(TOY, TOY_GENES, members) == pytest.approx(published, abs=1e-6)
    hits = in_order([a_set(members, name) for name, (members, _) in TOY_SETS.items()], TOY, TOY_GENES)[0]
    # NES of GSEApy with 20,000 permutations
    assert [hit.statistic for hit in hits] == pytest.approx([0.885, 1.915, -1.912, -0.723], rel=0.02)
    assert hits[1].genes == ("G31", "G21", "G32", "G22", "G02")
    assert hits[2].genes == ()
    assert hits[2].p > 0.99


@pytest.mark.parametrize("seed", range(5))
def test_p_is_the_share_of_all_sets_that_score_as_high(seed):
    """All 56 sets of three of eight genes are tested, so the exact null is known."""
    rng = np.random.default_rng(seed)
    scores, genes = rng.normal(size=8), [f"g{i}" for i in range(8)]
    every = [a_set(members, "".join(members)) for members in combinations(genes, 3)]
    null = np.array([plain_score(scores, genes, one.genes) for one in every])
    hits = in_order(every, scores, genes, permutations=40000)[0]
    exact = [np.mean(null >= score - 1e-9) for score in null]
    assert [hit.p for hit in hits] == pytest.approx(exact, abs=0.01)
    assert min(exact) == 1 / 56
    means = np.where(null > 0, null[null > 0].mean(), -null[null < 0].mean())
    assert [hit.statistic for hit in hits] == pytest.approx(null / means, rel=0.02)


def test_a_lone_set_can_pass_however_many_are_tested():
    rng = np.random.default_rng(0)
    scores = np.r_[np.linspace(12, 8, 8), rng.normal(size=192)]
    genes = [f"g{i:03d}" for i in range(200)]
    sets = [a_set(genes[:8], "planted"), *(a_set(rng.choice(genes[8:], 8, replace=False), f"r{i}") for i in range(999))]
    hits = in_order(sets, scores, genes, permutations=1000)[0]
    assert [hit.gene_set.term for hit in reliable(hits, FDR, OVERLAP)] == ["planted"]
    assert hits[0].p == 1 / 20001
    assert hits[0].q == pytest.approx(1000 / 20001)


def test_order_of_genes_sets_and_clusters_does_not_matter():
    rng = np.random.default_rng(1)
    scores, genes = rng.normal(size=(3, 60)).round(0), [f"g{i:02d}" for i in range(60)]
    sets = [a_set(rng.choice(genes, k, replace=False), f"s{k}") for k in (5, 9, 5, 14)]
    sets = [a_set(one.genes, f"s{i}") for i, one in enumerate(sets)]
    order = rng.permutation(60)
    there = in_order(sets, scores, genes)
    back = in_order(sets[::-1], scores[::-1, order], [genes[i] for i in order])
    assert [hits[::-1] for hits in back[::-1]] == there
    assert in_order(sets, scores, genes, seed=1) != there


def test_genes_that_carry_are_up_by_themselves():
    genes = [f"g{i:02d}" for i in range(50)]
    scores = np.r_[9.0, 8.0, np.linspace(1, -1, 48)]
    (hit,) = in_order([a_set(genes[:6])], scores, genes)[0]
    assert hit.genes == ("g00", "g01")
    assert not list(reliable([hit], FDR, OVERLAP))
    assert list(reliable([hit], FDR, 2)) == [hit]
    scores = np.r_[9.0, 8.0, -5.0, np.linspace(-6, -9, 47)]
    assert in_order([a_set(genes[:3])], scores, genes)[0][0].genes == ("g00", "g01")


def modules(rng, genes, n=120):
    """Draw overlapping sets: parts of 30 modules of 20 genes."""
    own = [rng.choice(genes, 20, replace=False) for _ in range(30)]
    return [a_set(rng.choice(own[i % 30], rng.integers(5, 19), replace=False), f"s{i}") for i in range(n)]


def silent(clusters):
    return np.mean([not list(reliable(hits, FDR, OVERLAP)) for hits in clusters])


def test_shuffled_gene_names_give_no_program():
    """Heavy-tailed scores, a third of the genes up: only their names are meaningless."""
    rng = np.random.default_rng(2)
    genes = [f"g{i:03d}" for i in range(300)]
    scores = rng.standard_t(3, size=(200, 300)) * 6
    assert silent(in_order(modules(rng, genes), scores, genes)) >= 0.95


def test_shuffled_markers_give_no_program():
    rng = np.random.default_rng(3)
    sets = modules(rng, PANEL)
    assert silent(over_representation(sets, list(rng.choice(PANEL, 20, replace=False)), 480) for _ in range(400)) >= 0.95


@pytest.mark.parametrize("method", ["ranked", "ora"])
def test_a_planted_program_is_first(method):
    rng = np.random.default_rng(4)
    sets = modules(rng, PANEL)
    for planted in sets[:120:6]:
        up = np.isin(PANEL, sorted(planted.genes))
        scores = rng.normal(size=480) + np.where(up, rng.uniform(4, 8, 480), 0)
        markers = [PANEL[i] for i in np.argsort(-scores)[:20]]
        hits = in_order(sets, scores, PANEL)[0] if method == "ranked" else over_representation(sets, markers, 480)
        assert next(reliable(hits, FDR, OVERLAP)).gene_set == planted
        assert min(hits, key=strength).gene_set == planted


def test_nothing_to_test():
    assert over_representation([], MARKERS, 480) == []
    assert in_order([], np.zeros((2, 5)), list("abcde")) == [[], []]
    (hit,) = over_representation([overlapping(0, 6)], [], 480)
    assert (hit.p, hit.statistic, hit.genes) == (1.0, 0.0, ())
    (hit,) = in_order([a_set("ab")], np.zeros(5), list("abcde"))[0]
    assert not list(reliable([hit], FDR, 1))
