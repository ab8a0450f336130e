"""Programs of 8,568 published breast-cancer cells by lineage, and of data without signal: `python benchmarks/programs.py`.

Data: Janesick et al. 2023, Xenium FFPE Rep1, in `breast_rep1_labelled` of `NUCLASS_TEST_DATA` (default ../shared/data), and the library
`markers/go/enrichr.GO_Biological_Process_2021.gmt` beside it. The published lineages serve as clusters.
"""

import os
import time
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from nuclass_pipeline.config.expression import ProgramsConfig
from nuclass_pipeline.expression.markers import compare_clusters, tabulate_scores
from nuclass_pipeline.expression.programs.enrichment import Hit, over_representation, rank_enrichment, reliable, sets_on_panel
from nuclass_pipeline.expression.programs.library import GeneSet, read_gmt
from nuclass_pipeline.expression.programs.stage import NO_PROGRAM

ROOT = Path(__file__).parents[1]
CONFIG = ProgramsConfig()
SETTINGS = {"permutations": CONFIG.permutations, "fdr": CONFIG.fdr, "seed": CONFIG.seed}
SHUFFLES, GROUPINGS, GROUPS, MARKERS = 20, 10, 10, 30


def prepare(data: Path) -> tuple[ad.AnnData, pd.Series]:
    counts = pd.read_csv(data / "counts.csv.gz", index_col="cell_id")
    names = pd.DataFrame(index=counts.index.astype(str))
    lineages = pd.read_csv(data / "lineages.tsv", sep="\t", index_col="label")["lineage"]
    label = pd.read_csv(data / "cells.csv.gz", index_col="cell_id").loc[counts.index, "label"].map(lineages).set_axis(names.index)
    cells = ad.AnnData(sparse.csr_matrix(counts.to_numpy(np.float32)), names, pd.DataFrame(index=counts.columns))
    return cells[label.notna().to_numpy()].copy(), label.dropna()


def kept(hits: list[Hit]) -> list[Hit]:
    return list(reliable(hits, CONFIG.fdr, CONFIG.min_overlap))


def score(cells: ad.AnnData, groups: pd.Series) -> tuple[list[str], np.ndarray]:
    """Return the names of the groups, and z of every gene in each of them, (groups, genes)."""
    table = tabulate_scores(compare_clusters(cells.copy(), groups), groups, cells.var_names)
    return table["cluster"].unique().tolist(), table["score"].to_numpy(float).reshape(-1, cells.n_vars)


def silent(clusters: list[list[Hit]]) -> str:
    return f"{np.mean([not kept(hits) for hits in clusters]):.3f} of {len(clusters)}"


def show(sets: list[GeneSet], names: list[str], scores: np.ndarray, panel: list[str]) -> None:
    start = time.perf_counter()
    found = rank_enrichment(sets, scores, panel, **SETTINGS)
    print(f"{len(sets)} sets, {len(panel)} genes, {len(names)} clusters: {time.perf_counter() - start:.1f} s")
    for name, hits in zip(names, found, strict=True):
        best = kept(hits)
        print(f"  {name:14s} {len(best):3d} reliable  {best[0].gene_set.name if best else NO_PROGRAM}")


def main() -> None:
    data = Path(os.environ.get("NUCLASS_TEST_DATA", ROOT.parent / "shared/data"))
    cells, lineage = prepare(data / "breast_rep1_labelled")
    panel, rng = list(cells.var_names), np.random.default_rng(0)
    library = read_gmt(data / "markers/go/enrichr.GO_Biological_Process_2021.gmt")
    sets = sets_on_panel(library, set(panel), CONFIG.min_size, CONFIG.max_size)
    names, scores = score(cells, lineage)
    show(sets, names, scores, panel)
    shuffled = np.concatenate([scores[:, rng.permutation(len(panel))] for _ in range(SHUFFLES)])
    print("no program, ranked, shuffled gene names:", silent(rank_enrichment(sets, shuffled, panel, **SETTINGS)))
    markers = [list(rng.choice(panel, MARKERS, replace=False)) for _ in range(400)]
    print("no program, ora, shuffled markers:      ", silent([over_representation(sets, some, len(panel)) for some in markers]))
    groups = (pd.Series(rng.integers(0, GROUPS, cells.n_obs).astype(str), index=cells.obs_names) for _ in range(GROUPINGS))
    random = np.concatenate([score(cells, some)[1] for some in groups])
    print("no program, ranked, random cells:       ", silent(rank_enrichment(sets, random, panel, **SETTINGS)))


if __name__ == "__main__":
    main()
