"""hSNMF: factors of expression, smoothed over a spatial graph, and the groups of cells that they form."""

from dataclasses import dataclass

from scipy import sparse

from nuclass_pipeline.config.expression import DomainsConfig
from nuclass_pipeline.expression.domains.factors import Factors, factorize, factorize_on_graph
from nuclass_pipeline.expression.domains.graphs import diffuse
from nuclass_pipeline.expression.domains.partition import blend_graphs, feature_graph
from nuclass_pipeline.expression.partitions import Codes, leiden


@dataclass(frozen=True)
class DomainFit:
    """Factors and domains of a slide.

    Attributes
    ----------
    plain
        Factors of expression alone.
    smoothed
        Factors after smoothing over the spatial graph.
    domain
        Domain of each cell, (cells,), 0 the largest.
    """

    plain: Factors
    smoothed: Factors
    domain: Codes


def fit_domains(x: sparse.csr_array, graph: sparse.csr_array, config: DomainsConfig) -> DomainFit:
    """Find domains, or in mode `contact` groups of cells.

    This is hSNMF (Mahmud et al. 2026, arXiv 2602.02638) with two changes. Factors are scaled to programs of unit length, and cells of
    different sections are not linked.

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
    # Likeness alone in mode contact, because neighbours of one domain mostly have different cell types.
    cut = likeness if config.mode == "contact" else blend_graphs(graph, likeness, config.alpha)
    return DomainFit(plain, smoothed, leiden(cut, config.resolution, config.seed))


def smooth(x: sparse.csr_array, plain: Factors, graph: sparse.csr_array, config: DomainsConfig) -> Factors:
    """Smooth factors over the graph by diffusion, or with `graph_penalty` by graph-regularised factorisation.

    Parameters
    ----------
    x
        Log rates, (cells, genes).
    plain
        Factors of `x`.
    graph
        Edge weights, (cells, cells).
    config
        Diffusion or penalty.
    """
    if config.graph_penalty > 0:
        return factorize_on_graph(x, graph, config.graph_penalty, plain)
    return Factors(diffuse(plain.weights, graph, config.beta, config.steps), plain.programs)
