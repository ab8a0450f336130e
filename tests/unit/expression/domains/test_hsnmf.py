"""Planted stripes and types are found again, each in its mode."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from nuclass_pipeline.config.expression import DomainsConfig
from nuclass_pipeline.expression.domains.factors import log_rates
from nuclass_pipeline.expression.domains.graphs import diffuse, spatial_graph
from nuclass_pipeline.expression.domains.hsnmf import DomainFit, fit_domains
from tests.unit.expression.domains.planted_tissue import MAJORITY, plant


def found_in(tissue, **settings) -> DomainFit:
    config = DomainsConfig(**settings)
    return fit_domains(log_rates(tissue.counts), spatial_graph(tissue.xy_um, np.zeros(len(tissue.type)), config), config)


@pytest.fixture(scope="module")
def domains(tissue) -> DomainFit:
    return found_in(tissue)


def test_the_planted_tissue_has_its_stated_composition(tissue):
    assert tissue.counts.shape == (10_240, 120)
    shares = [(tissue.type[tissue.stripe == stripe] == stripe).mean() for stripe in range(3)]
    assert shares == pytest.approx(MAJORITY, abs=0.02)
    assert np.ptp(tissue.xy_um, axis=0) == pytest.approx([1600, 1600], rel=0.01)


def test_mode_domain_finds_the_stripes_and_not_the_types(tissue, domains):
    assert adjusted_rand_score(tissue.stripe, domains.domain) >= 0.9
    assert adjusted_rand_score(tissue.type, domains.domain) < 0.4


@pytest.mark.parametrize("seed", range(3))
def test_mode_contact_finds_the_types_and_not_the_stripes(seed):
    tissue = plant(seed)
    groups = found_in(tissue, mode="contact").domain
    assert adjusted_rand_score(tissue.type, groups) >= 0.7
    assert adjusted_rand_score(tissue.stripe, groups) < 0.4


def test_contacts_help_to_find_the_types(tissue):
    unsmoothed = found_in(tissue, mode="contact", steps=0).domain
    assert adjusted_rand_score(tissue.type, unsmoothed) < 0.6


def test_the_graph_penalty_finds_the_stripes_too(tissue):
    found = found_in(tissue, graph_penalty=0.03)
    assert adjusted_rand_score(tissue.stripe, found.domain) >= 0.85
    assert (np.diff(found.smoothed.objective) <= 0).all()


def test_the_same_seed_gives_the_same_domains_and_the_steps_are_the_published_ones(tissue, domains):
    again = found_in(tissue)
    assert (again.domain == domains.domain).all()
    assert (again.smoothed.weights == domains.smoothed.weights).all()
    graph = spatial_graph(tissue.xy_um, np.zeros(10_240), DomainsConfig())
    assert domains.smoothed.weights == pytest.approx(diffuse(domains.plain.weights, graph, 0.6, 2))
    assert (domains.smoothed.programs == domains.plain.programs).all()
