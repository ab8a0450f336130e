"""From reliable terms to programs: the slim terms above them, or groups of terms carried by the same genes."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nuclass_pipeline.expression.programs.enrichment import Hit, strength
from nuclass_pipeline.expression.programs.library import PROCESS, Ontology

# 0.35, because NanoCellAnnotator groups terms by this threshold.
MAX_JACCARD = 0.35
"""Largest Jaccard index of the carrying genes of two programs; terms above it are one program."""


@dataclass(frozen=True)
class GeneProgram:
    """A named function of a cluster.

    Attributes
    ----------
    slim
        Id of the slim term; None where the program has the name of its best term.
    name
        Name of that term.
    hits
        Supporting hits, best first.
    weight
        Number of supporting terms; a term under several slim terms counts as a share for each.
    """

    slim: str | None
    name: str
    hits: tuple[Hit, ...]
    weight: float

    @property
    def genes(self) -> tuple[str, ...]:
        """Genes that carry the program, in the order of the hits."""
        return tuple(dict.fromkeys(gene for hit in self.hits for gene in hit.genes))

    @property
    def go_codes(self) -> tuple[str, ...]:
        """GO evidence codes of those genes in those terms, sorted."""
        codes = (hit.gene_set.go_codes.get(gene, frozenset()) for hit in self.hits for gene in hit.genes)
        return tuple(sorted(frozenset().union(*codes)))


def slim_terms(slim: Ontology) -> frozenset[str]:
    """Return the ids of the slim's biological processes."""
    # Without their root, because every process lies below it and its name would describe none.
    return frozenset(term.id for term in slim.terms.values() if term.namespace == PROCESS and term.parents)


def most_specific(term: str, ontology: Ontology, slim: frozenset[str]) -> dict[str, float]:
    """Return the most specific slim terms at or above a term, with equal weights.

    Parameters
    ----------
    term
        Id, live or secondary.
    ontology
        The full ontology; is_a and part_of are followed.
    slim
        Ids of the slim's terms.

    Returns
    -------
    Slim term → weight; the weights add up to 1. A slim term has itself. It is empty without a slim term above, or for an unknown term.
    """
    live = ontology.resolve(term)
    found = ontology.lineage(live) & slim if live else frozenset()
    above = frozenset().union(*(ontology.lineage(one) - {one} for one in found))
    return {one: 1 / len(found - above) for one in sorted(found - above)}


def by_slim(hits: Sequence[Hit], ontology: Ontology, slim: frozenset[str]) -> list[GeneProgram]:
    """Return the programs that slim terms make of `hits`, ordered by their best hit, then by weight.

    A program's weight is the sum of the shares of its terms. Hits that lie under no slim term are left out.

    Parameters
    ----------
    hits
        Reliable hits, best first.
    ontology
        The full ontology.
    slim
        Ids of the slim's terms, which `ontology` contains.
    """
    found: dict[str, list[tuple[Hit, float]]] = defaultdict(list)
    for hit in hits:
        for name, weight in most_specific(hit.gene_set.term, ontology, slim).items():
            found[name].append((hit, weight))
    programs = [
        GeneProgram(name, ontology.terms[name].name, tuple(hit for hit, _ in pairs), sum(weight for _, weight in pairs))
        for name, pairs in found.items()
    ]
    return sorted(programs, key=lambda one: (*strength(one.hits[0]), -one.weight, one.name))


def by_genes(hits: Iterable[Hit]) -> list[GeneProgram]:
    """Return the programs that groups of `hits` with the same genes make, each named by its best hit.

    A hit joins the first program whose best hit has a Jaccard index above `MAX_JACCARD` with it, else it begins a program.
    """
    groups: list[list[Hit]] = []
    for hit in hits:
        home = next((group for group in groups if _jaccard(group[0], hit) > MAX_JACCARD), None)
        if home is None:
            groups.append([hit])
        else:
            home.append(hit)
    return [GeneProgram(None, group[0].gene_set.name, tuple(group), float(len(group))) for group in groups]


def _jaccard(one: Hit, other: Hit) -> float:
    a, b = set(one.genes), set(other.genes)
    return len(a & b) / len(a | b)
