"""From reliable terms to programmes: the slim terms above them, or groups of terms carried by the same genes."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nuclass_pipeline.expression.programs.enrichment import Hit, strength
from nuclass_pipeline.expression.programs.library import PROCESS, Ontology

MAX_JACCARD = 0.35
"""Terms that share more of their carrying genes than this are one programme."""


@dataclass(frozen=True)
class GeneProgram:
    """A named function: its supporting hits, best first, and the terms' worth of support that falls to it.

    `slim` is None where the programme has the name of its best term.
    """

    slim: str | None
    name: str
    hits: tuple[Hit, ...]
    weight: float

    @property
    def genes(self) -> tuple[str, ...]:
        """Genes that carry it, in the order of the hits."""
        return tuple(dict.fromkeys(gene for hit in self.hits for gene in hit.genes))

    @property
    def evidence(self) -> tuple[str, ...]:
        """GO evidence codes of those genes in those terms."""
        codes = (hit.gene_set.evidence.get(gene, frozenset()) for hit in self.hits for gene in hit.genes)
        return tuple(sorted(frozenset().union(*codes)))


def slim_terms(slim: Ontology) -> frozenset[str]:
    """Name the slim's biological processes, without their root, which says nothing."""
    return frozenset(term.id for term in slim.terms.values() if term.namespace == PROCESS and term.parents)


def most_specific(term: str, ontology: Ontology, slim: frozenset[str]) -> dict[str, float]:
    """Share a term among the most specific slim terms at or above it.

    Parameters
    ----------
    term
        Any id; secondary ids are resolved.
    ontology
        The full ontology, followed along is_a and part_of.
    slim
        Ids of the slim's terms.

    Returns
    -------
    Slim term → equal weights that add up to 1; a slim term gives itself. Empty if there is none, or the term is not in the ontology.
    """
    live = ontology.resolve(term)
    found = ontology.lineage(live) & slim if live else frozenset()
    above = frozenset().union(*(ontology.lineage(one) - {one} for one in found))
    return {one: 1 / len(found - above) for one in sorted(found - above)}


def by_slim(hits: Sequence[Hit], ontology: Ontology, slim: frozenset[str]) -> list[GeneProgram]:
    """Gather hits under slim terms; those below none of them are left out.

    A programme's weight is the sum of what its terms give it. The best hit decides the order, then the weight.
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
    """Join each hit, best first, to the first programme whose best hit shares more than `MAX_JACCARD` of the genes, else begin one."""
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
