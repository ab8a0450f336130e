"""Records of the evidence on one cluster: any annotator can read them, and equal evidence has an equal hash."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Short, because a record becomes the prompt of a small language model; the public NanoCellAnnotator uses 20 markers too.
MAX_MARKERS, MAX_LABELS, MAX_PROGRAMS = 20, 12, 6
"""Entries of each block that a record holds at most, the strongest first."""

BLOCKS = ("markers", "support", "programs", "composition")
"""Blocks of evidence; a record lists those that are empty."""


@dataclass(frozen=True)
class MarkerGene:
    """A gene that is up in the cluster.

    Attributes
    ----------
    gene
        Gene symbol.
    log2fc
        log2 fold change against all other cells.
    fraction_in, fraction_out
        Share of the cluster's cells with the gene, and of all other cells.
    rank
        1 is the strongest.
    """

    gene: str
    log2fc: float
    fraction_in: float
    fraction_out: float
    rank: int


@dataclass(frozen=True)
class Support:
    """How well the cluster's markers support a label.

    Attributes
    ----------
    label
        Cell type.
    lineage
        Its lineage.
    score
        Support, 0 to 1.
    genes
        Markers of the cluster that contribute, the largest contribution first.
    """

    label: str
    lineage: str
    score: float
    genes: tuple[str, ...]


@dataclass(frozen=True)
class Program:
    """A gene program of the cluster.

    Attributes
    ----------
    name
        Name of the program.
    q
        Adjusted p value.
    genes
        Genes of the cluster that carry the program.
    """

    name: str
    q: float
    genes: tuple[str, ...]


@dataclass(frozen=True)
class ClusterEvidence:
    """The evidence on one cluster, and the closed set of labels it may get.

    Attributes
    ----------
    cluster
        Name of the cluster; no annotator reads it.
    n_cells
        Cells of the cluster.
    species, organ
        Context of the sample.
    markers
        At most `MAX_MARKERS`, the strongest first.
    support
        At most `MAX_LABELS`, the best supported label first; labels without support are left out.
    programs
        At most `MAX_PROGRAMS`, the most significant first.
    composition
        Share of each label among the cluster's cells, 0 to 1.
    admissible
        Labels that the cluster may get, sorted.

    Raises
    ------
    ValueError
        If no label is admissible, one is listed twice or supported without being admissible, or a block is over its size.
    """

    cluster: str
    n_cells: int
    species: str
    organ: str
    markers: tuple[MarkerGene, ...]
    support: tuple[Support, ...]
    programs: tuple[Program, ...]
    composition: Mapping[str, float]
    admissible: tuple[str, ...]

    def __post_init__(self) -> None:
        # Sorted, because the caller's order could otherwise sway an annotator and would change the hash.
        object.__setattr__(self, "admissible", tuple(sorted(self.admissible)))
        if not self.admissible or len(set(self.admissible)) != len(self.admissible):
            raise ValueError(f"admissible labels must be one or more, and different: {self.admissible}")
        if outside := sorted({support.label for support in self.support} - set(self.admissible)):
            raise ValueError(f"{outside[0]!r} is supported and not admissible")
        for block, limit in (("markers", MAX_MARKERS), ("support", MAX_LABELS), ("programs", MAX_PROGRAMS)):
            if len(getattr(self, block)) > limit:
                raise ValueError(f"{len(getattr(self, block))} {block}; a record holds {limit}")

    @property
    def genes(self) -> frozenset[str]:
        """Every gene that the evidence names."""
        listed = [*(support.genes for support in self.support), *(program.genes for program in self.programs)]
        return frozenset({marker.gene for marker in self.markers}.union(*listed))

    def without_evidence(self) -> "ClusterEvidence":
        """Return the same record with every block of evidence empty."""
        return ClusterEvidence(self.cluster, self.n_cells, self.species, self.organ, (), (), (), {}, self.admissible)

    def to_json(self) -> str:
        """Return the record as JSON: keys sorted, no spaces, UTF-8, numbers with six significant digits."""
        record = {name: value for name, value in vars(self).items() if name not in {"species", "organ"}}
        record["context"] = {"species": self.species, "organ": self.organ}
        record["empty"] = [block for block in BLOCKS if not getattr(self, block)]
        return json.dumps(_plain(record), sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)

    def sha256(self) -> str:
        """Return the SHA-256 hash of `to_json`."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Return records as dictionaries with rounded numbers."""
    if isinstance(value, MarkerGene | Support | Program):
        return _plain(vars(value))
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    # Six digits, because the last bits of a sum depend on the machine and would change the hash; + 0.0 turns −0 into 0.
    return float(f"{value:.6g}") + 0.0 if isinstance(value, float) else value
