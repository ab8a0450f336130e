"""Domains that each mode finds in a planted tissue, and time and memory of the stage on a large one.

    python benchmarks/domains.py [cells] [genes]

The tissue has three types in three stripes, in each of which another type has 60 to 70 %. The first table is the adjusted Rand index
with types and with stripes in 10,240 cells and 120 genes, mean of three seeds. Then the stage runs with all scores on `cells` (200,000)
× `genes` (400).
"""

import sys
import tempfile
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from sklearn.metrics import adjusted_rand_score
from stage import measure

from nuclass_pipeline.config.expression import DomainsConfig
from nuclass_pipeline.expression.domains.factors import log_rates
from nuclass_pipeline.expression.domains.graphs import spatial_graph
from nuclass_pipeline.expression.domains.hsnmf import fit_domains
from nuclass_pipeline.expression.domains.stage import find_domains

sys.path.append(str(Path(__file__).parents[1] / "tests/unit/expression/domains"))
from planted_tissue import Tissue, plant

VARIANTS = {
    "factors alone, graph of likeness": DomainsConfig(mode="contact", steps=0),
    "mode contact": DomainsConfig(mode="contact"),
    "diffusion of mode domain, graph of likeness": DomainsConfig(alpha=0),
    "mode domain": DomainsConfig(),
    "mode domain, graph penalty 0.03": DomainsConfig(graph_penalty=0.03),
}
SEEDS = range(3)


def rand_indices(tissue: Tissue, config: DomainsConfig) -> tuple[float, float]:
    graph = spatial_graph(tissue.xy_um, np.zeros(len(tissue.type)), config)
    domain = fit_domains(log_rates(tissue.counts), graph, config).domain
    return adjusted_rand_score(tissue.type, domain), adjusted_rand_score(tissue.stripe, domain)


def write(tissue: Tissue, folder: Path) -> None:
    obs = pd.DataFrame(index=[f"cell{i}" for i in range(len(tissue.type))])
    ad.AnnData(tissue.counts, obs, pd.DataFrame(index=[f"GENE{i}" for i in range(tissue.counts.shape[1])])).write_h5ad(
        folder / "counts.h5ad"
    )
    cells = pd.DataFrame({"cell_id": obs.index, "x_um": tissue.xy_um[:, 0], "y_um": tissue.xy_um[:, 1], "cell_area_um2": 50.0})
    transcripts = np.asarray(tissue.counts.sum(axis=1)).ravel().astype(int)
    cells = cells.assign(nucleus_area_um2=20.0, transcripts=transcripts, nucleus_transcripts=np.nan, controls=0)
    cells.to_parquet(folder / "cells.parquet")


def main() -> None:
    given = [int(value) for value in sys.argv[1:]]
    cells, genes = given + [200_000, 400][len(given) :]
    table = Table("variant", "ARI, types", "ARI, stripes")
    tissues = [plant(seed) for seed in SEEDS]
    for name, config in VARIANTS.items():
        table.add_row(name, *(f"{value:.3f}" for value in np.mean([rand_indices(tissue, config) for tissue in tissues], axis=0)))
    Console().print(table)
    with tempfile.TemporaryDirectory() as folder:
        tissue = plant(0, cells, genes, depth=150)
        write(tissue, Path(folder))
        inputs = {"counts": Path(folder, "counts.h5ad"), "cells": Path(folder, "cells.parquet"), "config": DomainsConfig()}
        outputs = {"domains": Path(folder, "domains.parquet"), "scores": Path(folder, "scores.parquet")}
        measure(find_domains, **inputs, run="benchmark", slide="planted", organ="breast", **outputs)
        domain = pd.read_parquet(Path(folder, "domains.parquet"))["domain"]
        print(f"{cells} cells × {genes} genes: ARI with the stripes {adjusted_rand_score(tissue.stripe, domain):.3f}")
        print(pd.read_parquet(Path(folder, "scores.parquet"))[["variant", "metric", "value", "n_cells"]].to_string(index=False))


if __name__ == "__main__":
    main()
