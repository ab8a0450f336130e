"""Gene sets, GO annotations and ontologies, read from the user's own downloads."""

import gzip
import hashlib
import logging
import re
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

from nuclass_pipeline.config.expression import GAF_SUFFIXES
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import first_line

logger = logging.getLogger(__name__)

_GO = "http://current.geneontology.org"
ONTOLOGY_HELP = f"Download {_GO}/ontology/go-basic.obo (Gene Ontology, CC BY 4.0)."
SLIM_HELP = f"Download {_GO}/ontology/subsets/goslim_generic.obo (Gene Ontology, CC BY 4.0)."
LIBRARY_HELP = f"Use a GMT file of gene sets, or download {_GO}/annotations/goa_human.gaf.gz (Gene Ontology, CC BY 4.0)."

PROCESS = "biological_process"
"""The aspect of GO whose terms are programs."""

_ID = re.compile(r"GO:\d{7}|R-HSA-\d+")
# Cut from names, because Enrichr's libraries repeat the id there: "T cell activation (GO:0042110)".
_TRAILING_ID = re.compile(rf"\s*\(?(?:{_ID.pattern})\)?\s*$")


@dataclass(frozen=True)
class GeneSet:
    """Genes of one term.

    Attributes
    ----------
    term
        GO or Reactome id; the name where the library has none.
    name
        Name of the term.
    genes
        Symbols of its genes.
    go_codes
        GO evidence codes of each gene; empty for a GMT file, which has none.
    """

    term: str
    name: str
    genes: frozenset[str]
    go_codes: Mapping[str, frozenset[str]] = field(default_factory=dict)


class Annotation(NamedTuple):
    """One positive annotation of a GAF file: the gene's symbol, the term's id and the GO evidence code."""

    gene: str
    term: str
    go_code: str


@dataclass(frozen=True)
class Term:
    """A live term of an ontology.

    Attributes
    ----------
    id, name
        Such as `GO:0042110` and `T cell activation`.
    namespace
        Aspect of GO; empty where the file has none.
    parents
        Ids of the terms above by is_a or part_of.
    """

    id: str
    name: str
    namespace: str
    parents: tuple[str, ...] = ()


class Ontology:
    """Live terms by id, with the terms above each.

    Parameters
    ----------
    terms
        Live terms; every parent must be among them.
    alternatives
        Secondary id → the id that replaced it.

    Raises
    ------
    ValueError
        If a parent is missing, or a term is its own ancestor.
    """

    # Not obonet and networkx, because an error then could not name the line of the file, and the closure takes no more code than here.
    def __init__(self, terms: Iterable[Term], alternatives: Mapping[str, str] | None = None) -> None:
        self.terms = {term.id: term for term in terms}
        self._alternatives = dict(alternatives or {})
        for term in self.terms.values():
            if unknown := set(term.parents) - set(self.terms):
                raise ValueError(f"{min(unknown)}, the parent of {term.id}, is obsolete or missing")
        self._above: dict[str, frozenset[str]] = {}
        try:
            for name in TopologicalSorter({term.id: term.parents for term in self.terms.values()}).static_order():
                self._above[name] = frozenset({name}).union(*(self._above[parent] for parent in self.terms[name].parents))
        except CycleError as error:
            raise ValueError(f"the terms {' < '.join(error.args[1])} form a circle") from None

    def resolve(self, term: str) -> str | None:
        """Return the live id of `term`, itself or what replaced it; None if it is obsolete or unknown."""
        term = self._alternatives.get(term, term)
        return term if term in self.terms else None

    def lineage(self, term: str) -> frozenset[str]:
        """Return the live `term` itself and all terms above it by is_a and part_of."""
        return self._above[term]


def read_library(path: Path, ontology: Ontology | None, panel: Collection[str]) -> list[GeneSet]:
    """Read gene sets from a GMT or GAF file, by its suffix, and log its SHA-256.

    Parameters
    ----------
    path
        File that ends with `.gmt` or `.gaf`, either with `.gz`.
    ontology
        Terms and their parents; a GAF file needs it, a GMT file does not use it.
    panel
        Genes to keep of a GAF file, whose genome-wide sets would take much memory.

    Raises
    ------
    UserError
        If the file is missing or broken, or a GAF file has no ontology.
    """
    if not path.name.endswith(GAF_SUFFIXES):
        return read_gmt(path)
    if ontology is None:
        raise UserError("run file", "programs.ontology", f"not set, but needed by {path}", f"Set it to go-basic.obo. {ONTOLOGY_HELP}")
    return propagate(read_gaf(path), ontology, panel)


def read_gmt(path: Path) -> list[GeneSet]:
    """Read gene sets, one per line: name, description, genes, separated by tabs.

    A GO or Reactome id in the name or description is the term's id, and is cut from the end of the name. Else the name is the id.

    Raises
    ------
    UserError
        If the file is missing or unreadable, or at the first line that is not a gene set or repeats one.
    """
    sets: dict[str, GeneSet] = {}
    for number, line in _lines(path, LIBRARY_HELP):
        if not line.strip():
            continue
        one = _gene_set(path, number, line)
        if one.term in sets:
            raise UserError(path, f"line {number}", f"the set {one.term} occurs twice", "Keep one of the two lines.")
        sets[one.term] = one
    if not sets:
        raise UserError(path, "sets", "the file has none", LIBRARY_HELP)
    return list(sets.values())


def _gene_set(path: Path, number: int, line: str) -> GeneSet:
    name, description, *genes = (part.strip() for part in line.split("\t")) if line.count("\t") > 1 else ("", "")
    members = frozenset(genes) - {""}
    if not name or not members:
        raise UserError(path, f"line {number}", f"{line[:40]!r} is not a gene set", "Separate name, description and genes by tabs.")
    if weighted := sorted(gene for gene in members if "," in gene):
        raise UserError(path, f"line {number}", f"{weighted[0]!r} is not a gene symbol", "Use a library without weights.")
    found = _ID.search(f"{name} {description}")
    return GeneSet(found.group() if found else name, _TRAILING_ID.sub("", name) or name, members)


def read_gaf(path: Path) -> Iterator[Annotation]:
    """Yield the annotations of a GAF 2.x file, without those qualified by NOT.

    Raises
    ------
    UserError
        If the file is missing, unreadable or of another version, or at the first line with too few columns or an empty one.
    """
    version = ""
    for number, line in _lines(path, LIBRARY_HELP):
        if line.startswith("!"):
            version = line.partition(":")[2].strip() if line.startswith("!gaf-version:") else version
            continue
        if not version.startswith("2."):
            raise UserError(path, f"line {number}", f"the version above it is {version or 'missing'}, not 2.x", LIBRARY_HELP)
        if line.strip():
            columns = line.split("\t")
            if len(columns) < 15 or not (columns[2] and _ID.fullmatch(columns[4]) and columns[6]):
                raise UserError(path, f"line {number}", "has no symbol, GO id or evidence code, or fewer than 15 columns", LIBRARY_HELP)
            if "NOT" not in columns[3].upper().split("|"):
                yield Annotation(columns[2], columns[4], columns[6])
    if not version:
        raise UserError(path, "file", "has no line '!gaf-version: 2.x'", LIBRARY_HELP)


def propagate(annotations: Iterable[Annotation], ontology: Ontology, panel: Collection[str]) -> list[GeneSet]:
    """Return the genes of each biological process: those annotated to it or to a term below it by is_a and part_of.

    Returns
    -------
    Gene sets in the order of their ids. A gene keeps its evidence codes in the terms above.
    """
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    unknown = 0
    for annotation in annotations:
        term = ontology.resolve(annotation.term)
        unknown += term is None
        if term is not None and annotation.gene in panel:
            for above in ontology.lineage(term):
                found[above][annotation.gene].add(annotation.go_code)
    if unknown:
        logger.warning("%d annotations have terms that are obsolete or not in the ontology; use files of one release", unknown)
    return [
        GeneSet(term, ontology.terms[term].name, frozenset(genes), {gene: frozenset(codes) for gene, codes in genes.items()})
        for term, genes in sorted(found.items())
        if ontology.terms[term].namespace == PROCESS
    ]


def read_obo(path: Path, remedy: str = ONTOLOGY_HELP) -> Ontology:
    """Read the live terms of an OBO file, with is_a and part_of; other stanzas and relations are skipped.

    Raises
    ------
    UserError
        If the file is missing, unreadable or without terms, a line is broken, a parent is missing or terms form a circle.
    """
    terms: dict[str, Term] = {}
    alternatives: dict[str, str] = {}
    for number, stanza in _stanzas(path, remedy):
        if not (stanza["id"] and stanza["name"]):
            raise UserError(path, f"line {number}", "the term has no id or no name", remedy)
        if stanza["id"][0] in terms:
            raise UserError(path, f"line {number}", f"{stanza['id'][0]} occurs twice", remedy)
        if stanza["is_obsolete"] != ["true"]:
            term = Term(stanza["id"][0], stanza["name"][0], "".join(stanza["namespace"][:1]), tuple(dict.fromkeys(stanza["parents"])))
            terms[term.id] = term
            alternatives.update(dict.fromkeys(stanza["alt_id"], term.id))
    if not terms:
        raise UserError(path, "terms", "the file has none", remedy)
    try:
        return Ontology(terms.values(), alternatives)
    except ValueError as error:
        raise UserError(path, "is_a, part_of", str(error), remedy) from None


def _stanzas(path: Path, remedy: str) -> Iterator[tuple[int, dict[str, list[str]]]]:
    """Yield the line and the tags of each [Term], with is_a and part_of joined as `parents`."""
    begun, stanza = 0, None
    for number, line in _lines(path, remedy):
        if line.startswith("["):
            if stanza is not None:
                yield begun, stanza
            begun, stanza = number, defaultdict[str, list[str]](list) if line.startswith("[Term]") else None
        elif stanza is not None and line.strip() and not line.startswith("!"):
            tag, value = _tag(path, number, line, remedy)
            stanza[tag].append(value)
        elif not begun and line.startswith("data-version:"):
            logger.info("%s: %s", path, line)
    if stanza is not None:
        yield begun, stanza


def _tag(path: Path, number: int, line: str, remedy: str) -> tuple[str, str]:
    tag, colon, value = (part.strip() for part in line.partition(":"))
    words = value.split()
    if not colon or not words or (tag == "relationship" and len(words) < 2):
        raise UserError(path, f"line {number}", f"{line[:40]!r} is not a tag with a value", remedy)
    if tag == "is_a":
        return "parents", words[0]
    if tag == "relationship" and words[0] == "part_of":
        return "parents", words[1]
    return tag, value


def _lines(path: Path, remedy: str) -> Iterator[tuple[int, str]]:
    """Yield numbered lines of a text file, gzipped or not, after logging its SHA-256."""
    if not path.is_file():
        raise UserError(path, "file", "it does not exist", remedy)
    with path.open("rb") as raw:
        logger.info("%s: sha256 %s", path, hashlib.file_digest(raw, "sha256").hexdigest())
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, start=1):
                yield number, line.rstrip("\n")
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise UserError(path, "file", f"cannot be read ({first_line(error)})", remedy) from error
