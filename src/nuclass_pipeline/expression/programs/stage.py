"""Functional programmes of each cluster of a slide."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from numpy.typing import NDArray

from nuclass_pipeline.config.expression import ProgramsConfig
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.expression.counts import match_cells, normalize, read_counts
from nuclass_pipeline.expression.programs.enrichment import Hit, over_representation, rank_enrichment, reliable, sets_on_panel, strength
from nuclass_pipeline.expression.programs.library import LIBRARY_HELP, ONTOLOGY_HELP, SLIM_HELP, GeneSet, Ontology, read_library, read_obo
from nuclass_pipeline.expression.programs.slim import GeneProgram, by_genes, by_slim, slim_terms
from nuclass_pipeline.io import read_table, write_table
from nuclass_pipeline.schemas import CLUSTERS, MARKERS, PROGRAMS

logger = logging.getLogger(__name__)

NO_PROGRAM = "no reliable programme"


def find_programs(
    *,
    counts: Path,
    clusters: Path,
    markers: Path,
    library: Path,
    ontology: Path | None = None,
    slim: Path | None = None,
    config: ProgramsConfig,
    programs: Path,
) -> None:
    """Find what each cluster does, or say that no programme is reliable.

    The background is the panel, and every eligible set counts as a test. The clusters were found in the same data, so p and q rank
    programmes and prove nothing.

    Parameters
    ----------
    counts, clusters, markers
        Raw counts, clusters of the same cells, and their marker genes, which only `method: ora` reads.
    library
        Gene sets (GMT) or GO annotations (GAF 2.x, with `ontology`).
    ontology, slim
        go-basic.obo and a slim. With both, programmes are slim terms; else each has the name of its best term, and `named_by` says so.
    config
        Method and thresholds.
    programs
        Table `PROGRAMS`, clusters in the order of their names.

    Raises
    ------
    UserError
        If a file is missing or broken, or no set has `min_size` to `max_size` genes on the panel.
    """
    cells = read_counts(counts)
    table = match_cells(read_table(clusters, CLUSTERS, ["cell_id", "cluster"]), cells.obs_names, clusters)
    full = read_obo(ontology) if ontology else None
    sets = sets_on_panel(read_library(library, full, set(cells.var_names)), set(cells.var_names), config.min_size, config.max_size)
    if not sets:
        sizes = f"none of its sets has {config.min_size} to {config.max_size} genes of the panel"
        raise UserError(library, "genes", sizes, f"Symbols are compared exactly: is it the panel's species? {LIBRARY_HELP}")
    logger.info("%d sets are eligible on a panel of %d genes", len(sets), cells.n_vars)
    named = table["cluster"].notna().to_numpy()
    groups = table.loc[named, "cluster"].astype(str)
    hits = (
        _overlaps(markers, sets, cells.var_names, groups)
        if config.method == "ora"
        else _rankings(cells[named].copy(), groups, sets, config)
    )
    namer = _Namer(full, slim, config)
    rows = [row for name in sorted(groups.unique(), key=_shortest_first) for row in namer.rows(name, hits.get(name), len(sets))]
    write_table(_frame(rows), programs, PROGRAMS)


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Give the table its types, which a column without any value would lose."""
    types = {column.name: {"text": object, "integer": int, "number": float}[column.kind] for column in PROGRAMS.columns}
    return pd.DataFrame(rows, columns=list(types), dtype=object).astype(types)


def _shortest_first(name: str) -> tuple[int, str]:
    """Put 2 before 10, whatever the names are."""
    return len(name), name


def _overlaps(path: Path, sets: Sequence[GeneSet], panel: pd.Index, groups: pd.Series) -> dict[str, list[Hit]]:
    """Test the markers of each cluster that has any."""
    table = read_table(path, MARKERS).sort_values("rank")
    for field, known, place in (("gene", panel, "counts"), ("cluster", groups, "clusters")):
        if unknown := sorted(set(table[field].astype(str)) - set(known)):
            raise UserError(path, field, f"{unknown[0]!r} is not among the {place}", "Remove the file and run again.")
    return {str(name): over_representation(sets, list(rows["gene"]), len(panel)) for name, rows in table.groupby("cluster")}


def _rankings(cells: ad.AnnData, groups: pd.Series, sets: Sequence[GeneSet], config: ProgramsConfig) -> dict[str, list[Hit]]:
    """Test the ranked panel of each cluster that can be compared with other cells."""
    names, scores = gene_scores(cells, groups)
    found = rank_enrichment(sets, scores, list(cells.var_names), permutations=config.permutations, fdr=config.fdr, seed=config.seed)
    return dict(zip(names, found, strict=True))


def gene_scores(cells: ad.AnnData, groups: pd.Series) -> tuple[list[str], NDArray[np.float64]]:
    """Score every gene of the panel in every cluster that has two cells inside and two outside.

    Parameters
    ----------
    cells
        Raw counts; normalised and logged in place.
    groups
        Cluster of each cell.

    Returns
    -------
    Names of the clusters, and Wilcoxon's z with ties corrected, one cluster against all other cells, (clusters, genes).
    """
    sizes = groups.value_counts()
    names = sorted(str(name) for name, n in sizes.items() if 2 <= n <= cells.n_obs - 2)
    if not names:
        return [], np.empty((0, cells.n_vars))
    cells.obs["cluster"] = pd.Categorical(groups)
    cells.X = normalize(cells.X).log1p()
    sc.tl.rank_genes_groups(cells, "cluster", groups=names, method="wilcoxon", tie_correct=True)
    tested = (sc.get.rank_genes_groups_df(cells, name).set_index("names")["scores"] for name in names)
    return names, np.stack([scores.reindex(cells.var_names).to_numpy(np.float64) for scores in tested])


class _Namer:
    """Turns the hits of a cluster into rows."""

    def __init__(self, ontology: Ontology | None, slim: Path | None, config: ProgramsConfig) -> None:
        self.config, self.ontology = config, ontology
        self.slim = slim_terms(read_obo(slim, SLIM_HELP)) if slim and ontology else None
        if slim and not ontology:
            logger.warning("%s is not used: finding the slim terms above a term needs programs.ontology. %s", slim, ONTOLOGY_HELP)

    def rows(self, cluster: str, hits: Sequence[Hit] | None, tests: int) -> list[dict[str, Any]]:
        """Give the rows of a cluster; `hits` is None if it was not tested."""
        common = {"cluster": cluster, "method": self.config.method, "m": tests}
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
        "p": best.p,
        "q": best.q,
        "size": len(best.gene_set.genes),
        "genes": ";".join(program.genes),
        "terms": ";".join(hit.gene_set.term for hit in program.hits),
        "evidence": ";".join(program.evidence) or None,
        "weight": program.weight,
    }
