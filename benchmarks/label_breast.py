"""Score the labels of 8,568 published breast-cancer cells by lineage, worst of three seeds: `python benchmarks/label_breast.py`.

Data: Janesick et al. 2023, Xenium FFPE Rep1, in `breast_rep1_labelled` of `NUCLASS_TEST_DATA` (default ../shared/data). The published
labels are only read to score; hybrids and unlabelled cells are not scored, and are best left Unresolved.
"""

import os
import time
from pathlib import Path
from typing import Any

from nuclass_pipeline.config.expression import ClusteringConfig
from nuclass_pipeline.config.labeling import LabelingConfig
from nuclass_pipeline.labeling.published import score_counts

ROOT = Path(__file__).parents[1]


def score(data: Path, seed: int) -> dict[str, Any]:
    """Label and score with the shipped defaults."""
    return score_counts(
        counts=data / "counts.csv.gz",
        cells=data / "cells.csv.gz",
        lineages=data / "lineages.tsv",
        organ="breast",
        knowledge=ROOT / "config/markers.tsv",
        clustering=ClusteringConfig(seed=seed),
        labeling=LabelingConfig(seed=seed),
    )


def main() -> None:
    data = Path(os.environ.get("NUCLASS_TEST_DATA", ROOT.parent / "shared/data")) / "breast_rep1_labelled"
    start = time.perf_counter()
    runs = [score(data, seed) for seed in range(3)]
    print(f"{(time.perf_counter() - start) / 3:.1f} s a run")
    for name in ("accuracy", "macro_f1", "coverage", "selective_accuracy", "selective_macro_f1"):
        print(f"{name:20s} {min(run[name] for run in runs):.3f}")
    for label in runs[0]["unscored_unresolved"]:
        print(f"{label + ' Unresolved':36s} {min(run['unscored_unresolved'][label] for run in runs):.3f}")
    for lineage in runs[0]["f1"]:
        print(f"{'F1 ' + lineage:20s} {min(run['f1'][lineage] for run in runs):.3f}")


if __name__ == "__main__":
    main()
