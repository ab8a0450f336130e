"""hSNMF: factors of expression, smoothed over a spatial graph, and the groups of cells that they form."""

from dataclasses import dataclass

from scipy import sparse

from nuclass_pipeline.config.expression import DomainsConfig
from nuclass_pipeline.expression.clustering import Codes, leiden
from nuclass_pipeline.expression.domains.factors import Factors, factorize, factorize_on_graph
from nuclass_pipeline.expression.domains.graphs import diffuse
from nuclass_pipeline.expression.domains.partition import blend_graphs, feature_graph


@dataclass(frozen=True)
class DomainFit:
    """`plain` factors, which know no place, the `smoothed` ones, and the `domain` of each cell, (cells,), 0 being the largest."""

    plain: Factors
    smoothed: Factors
    domain: Codes


def fit_domains(x: sparse.csr_array, graph: sparse.csr_array, config: DomainsConfig) -> DomainFit:
    """Find domains, or in mode `contact` groups of cells.

    Mahmud et al. 2026 (arXiv 2602.02638), with two changes: factors are scaled to programmes of unit length, and sections are apart.

    Parameters
    ----------
    x
        Log rates, (cells, genes).
    graph
        `spatial_graph` of the same cells and the same `config`.
    config
        Rank, diffusion or penalty, blend, resolution and seed.
    """
    plain = factorize(x, config.rank, config.seed)
    smoothed = smooth(x, plain, graph, config)
    likeness = feature_graph(smoothed.weights, config.neighbors, config.seed)
    cut = likeness if config.mode == "contact" else blend_graphs(graph, likeness, config.alpha)
    return DomainFit(plain, smoothed, leiden(cut, config.resolution, config.seed))


def smooth(x: sparse.csr_array, plain: Factors, graph: sparse.csr_array, config: DomainsConfig) -> Factors:
    """Bring place into the factors of `x`: by diffusion, or with `graph_penalty` by factorising anew on the graph."""
    if config.graph_penalty > 0:
        return factorize_on_graph(x, graph, config.graph_penalty, plain)
    return Factors(diffuse(plain.weights, graph, config.beta, config.steps), plain.programs)
