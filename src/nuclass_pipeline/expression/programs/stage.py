"""Functional programs of each cluster of a slide."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nuclass_pipeline.config.expression import ProgramsConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.expression.programs.enrichment import Hit, over_representation, rank_enrichment, reliable, sets_on_panel, strength
from nuclass_pipeline.expression.programs.library import LIBRARY_HELP, ONTOLOGY_HELP, SLIM_HELP, GeneSet, Ontology, read_library, read_obo
from nuclass_pipeline.expression.programs.slim import GeneProgram, by_genes, by_slim, slim_terms
from nuclass_pipeline.io import read_table, write_table
from nuclass_pipeline.schemas import GENE_SCORES, MARKERS, PROGRAMS

logger = logging.getLogger(__name__)

NO_PROGRAM = "no reliable program"


def find_programs(
    *,
    gene_scores: Path,
    markers: Path,
    library: Path,
    ontology: Path | None = None,
    slim: Path | None = None,
    config: ProgramsConfig,
    programs: Path,
) -> None:
    """Find the functions of each cluster, or report that no program is reliable.

    The background is the panel, and every eligible set counts as a test. The clusters were found in the same data, so p and q rank
    programs and prove nothing.

    Parameters
    ----------
    gene_scores
        Table `GENE_SCORES`, which names the panel's genes and the clusters. Its scores are used by `method: ranked`.
    markers
        Table `MARKERS` of the same clusters, used by `method: ora`.
    library
        Gene sets (GMT), or GO annotations (GAF 2.x, which need `ontology`).
    ontology
        go-basic.obo.
    slim
        A GO slim. With it and `ontology`, programs are slim terms; else each has the name of its best term. `named_by` records which.
    config
        Method and thresholds.
    programs
        Table `PROGRAMS`, clusters in the order of `gene_scores`.

    Raises
    ------
    UserError
        If a file is missing or broken, or no set has `min_size` to `max_size` genes on the panel.
    """
    table = read_table(gene_scores, GENE_SCORES)
    panel, clusters = table["gene"].unique().tolist(), table["cluster"].unique().tolist()
    full = read_obo(ontology) if ontology else None
    sets = sets_on_panel(read_library(library, full, set(panel)), set(panel), config.min_size, config.max_size)
    if panel and not sets:
        sizes = f"none of its sets has {config.min_size} to {config.max_size} genes of the panel"
        species = "Use a library of the panel's species, because symbols are compared exactly."
        raise UserError(library, "genes", sizes, f"{species} {LIBRARY_HELP}")
    logger.info("%d sets are eligible on a panel of %d genes", len(sets), len(panel))
    hits = _overlaps(markers, sets, panel, clusters) if config.method == "ora" else _rankings(table, sets, panel, config)
    namer = _Namer(full, slim, config)
    rows = [row for name in clusters for row in namer.rows(name, hits.get(name), len(sets))]
    write_table(_frame(rows), programs, PROGRAMS)


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    # Types by the schema, because a column without any value would lose its own.
    types = {column.name: {"text": object, "integer": int, "number": float}[column.kind] for column in PROGRAMS.columns}
    return pd.DataFrame(rows, columns=list(types), dtype=object).astype(types)


def _overlaps(path: Path, sets: Sequence[GeneSet], panel: Sequence[str], clusters: Sequence[str]) -> dict[str, list[Hit]]:
    """Test the markers of each cluster that has any."""
    table = read_table(path, MARKERS).sort_values("rank")
    for field, known in (("gene", panel), ("cluster", clusters)):
        if unknown := sorted(set(table[field].astype(str)) - set(known)):
            raise UserError(path, field, f"{unknown[0]!r} is not in the table of gene scores", "Remove the file and run again.")
    return {str(name): over_representation(sets, list(rows["gene"]), len(panel)) for name, rows in table.groupby("cluster")}


def _rankings(table: pd.DataFrame, sets: Sequence[GeneSet], panel: list[str], config: ProgramsConfig) -> dict[str, list[Hit]]:
    """Test the ranked panel of each cluster that was compared with other cells."""
    compared = table.dropna(subset="score").groupby("cluster", sort=False)
    scores = np.empty((compared.ngroups, len(panel)))
    for row, (_, genes) in enumerate(compared):
        scores[row] = genes.set_index("gene")["score"].reindex(panel)
    found = rank_enrichment(sets, scores, panel, permutations=config.permutations, fdr=config.fdr, seed=config.seed)
    return dict(zip((str(name) for name, _ in compared), found, strict=True))


class _Namer:
    """Turns the hits of a cluster into rows."""

    def __init__(self, ontology: Ontology | None, slim: Path | None, config: ProgramsConfig) -> None:
        self.config, self.ontology = config, ontology
        self.slim = slim_terms(read_obo(slim, SLIM_HELP)) if slim and ontology else None
        if slim and not ontology:
            logger.warning("%s is not used: finding the slim terms above a term needs programs.ontology. %s", slim, ONTOLOGY_HELP)

    def rows(self, cluster: str, hits: Sequence[Hit] | None, tests: int) -> list[dict[str, Any]]:
        """Return the rows of a cluster; `hits` is None if it was not tested."""
        common = {"cluster": cluster, "method": self.config.method, "n_tests": tests}
        if hits is None:
            why = "no marker" if self.config.method == "ora" else "fewer than two cells inside or outside"
            return [common | _none(why)]
        kept = list(reliable(hits, self.config.fdr, self.config.min_overlap))
        programs = by_genes(kept) if self.ontology is None or self.slim is None else by_slim(kept, self.ontology, self.slim)
        if programs:
            return [common | _row(rank, one) for rank, one in enumerate(programs[: self.config.most], start=1)]
        return [common | _none(f"{len(kept)} terms are reliable, none under a slim term" if kept else _best(hits))]


def _best(hits: Sequence[Hit]) -> str:
    best = min(hits, key=strength)
    return f"the best set is {best.gene_set.name}: q {best.q:.2g}, {len(best.genes)} genes"


def _none(reason: str) -> dict[str, Any]:
    return {"rank": 0, "name": NO_PROGRAM, "size": 0, "weight": 0.0, "reason": reason}


def _row(rank: int, program: GeneProgram) -> dict[str, Any]:
    best = program.hits[0]
    return {
        "rank": rank,
        "name": program.name,
        "named_by": "slim" if program.slim else "term",
        "slim_id": program.slim,
        "term_id": best.gene_set.term,
        "statistic": best.statistic,
        "p_value": best.p,
        "q_value": best.q,
        "size": len(best.gene_set.genes),
        "genes": ";".join(program.genes),
        "terms": ";".join(hit.gene_set.term for hit in program.hits),
        "go_codes": ";".join(program.go_codes) or None,
        "weight": program.weight,
    }
