"""Labels beside simple peers, on the published breast slide and nine slides made of it, with the same marker table: one table.

    python benchmarks/labels.py [--seed 0]

The peers: mean z-score of the markers; a univariate linear model (ULM) of a cell's expression on the weights of a type; the overlap of a
Leiden cluster's 20 best Wilcoxon genes with the markers; ULM of a cluster's z-scored means. The published labels are only read to score.
"""

import argparse
import warnings
from collections.abc import Callable, Iterator

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from label_cases import TYPES_OF, Case, make_cases
from scipy import sparse
from sklearn.metrics import f1_score

from nuclass_pipeline.config.labeling import LabelingConfig
from nuclass_pipeline.expression.counts import normalize
from nuclass_pipeline.knowledge.cell_types import HIERARCHY
from nuclass_pipeline.labeling.accuracy import confidence_scores
from nuclass_pipeline.labeling.calibration import assign_calibrated
from nuclass_pipeline.labeling.evidence import annotator_named, gather_expression

SELECTIVE, TOP = 0.9, 20


def logged(case: Case) -> sparse.csr_matrix:
    x = normalize(case.counts).copy()
    x.data = np.log1p(x.data)
    return x


def positive(case: Case) -> np.ndarray:
    return np.clip(case.panel.weights, 0, None)


def zscores(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-9)


def ulm(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the t value of the slope of each row on the weights of each type."""
    x, weights = x - x.mean(axis=1, keepdims=True), weights - weights.mean(axis=0)
    r = (x @ weights) / (np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(weights, axis=0) + 1e-12)
    return r * np.sqrt((len(weights) - 2) / np.clip(1 - r**2, 1e-9, None))


def marker_mean(case: Case) -> np.ndarray:
    weights = positive(case)
    return zscores(logged(case).toarray()) @ (weights / weights.sum(axis=0))


def ulm_per_cell(case: Case) -> np.ndarray:
    return ulm(logged(case).toarray(), positive(case))


def leiden_overlap(case: Case) -> np.ndarray:
    cells = ad.AnnData(logged(case), var=pd.DataFrame(index=list(case.genes)))
    cells.obs["cluster"] = pd.Categorical(case.clusters.astype(str))
    sizes = cells.obs["cluster"].value_counts()
    sc.tl.rank_genes_groups(cells, "cluster", method="wilcoxon", groups=list(sizes[sizes > 1].index))
    marked = pd.DataFrame(positive(case) > 0, index=case.genes)
    scores = np.zeros((len(sizes), marked.shape[1]))
    for cluster in sizes[sizes > 1].index:
        best = sc.get.rank_genes_groups_df(cells, cluster)["names"].head(TOP)
        scores[int(cluster)] = marked.loc[best].sum() / np.sqrt(marked.sum())
    return scores[case.clusters]


def leiden_ulm(case: Case) -> np.ndarray:
    member = sparse.csr_matrix(np.eye(case.clusters.max() + 1)[case.clusters])
    means = np.asarray((member.T @ logged(case)).todense()) / member.sum(axis=0).T
    return ulm(zscores(np.asarray(means)), positive(case))[case.clusters]


PEERS: dict[str, Callable[[Case], np.ndarray]] = {
    "marker mean": marker_mean,
    "ULM per cell": ulm_per_cell,
    "Leiden + overlap": leiden_overlap,
    "Leiden + ULM": leiden_ulm,
}


def score(case: Case, candidate: np.ndarray) -> tuple[float, float]:
    """Return accuracy and macro-F1 of the lineages."""
    names = sorted(set(case.lineage.dropna()))
    mapped = HIERARCHY.map_to_lineages(case.panel.types, names)
    found = np.array([mapped[name] or "none" for name in case.panel.types])[candidate][case.scored]
    truth = case.lineage[case.scored].to_numpy(str)
    return float((found == truth).mean()), float(f1_score(truth, found, labels=names, average="macro", zero_division=0))


def score_ours(case: Case, seed: int) -> dict[str, float]:
    """Label, and return the scores of lineages, types and confidence."""
    config = LabelingConfig(seed=seed)
    expression = gather_expression(case.panel, case.counts, case.components)
    assignment = assign_calibrated(expression, annotator_named(config.annotator), seed=seed)
    accuracy, macro_f1 = score(case, assignment.candidate)
    assignment = assignment.broadened(case.panel, config.min_confidence, case.panel.types)
    types = np.array(case.panel.types)[assignment.candidate]
    right = np.array([name in TYPES_OF.get(label, "").split() for name, label in zip(types, case.label, strict=True)])[case.scored]
    confidence = assignment.confidence[case.scored]
    kept = confidence >= config.min_confidence
    # Among the surest cells, the largest share of which nine in ten are right.
    running = np.cumsum(right[np.argsort(-confidence, kind="stable")]) / np.arange(1, len(right) + 1)
    return {
        "accuracy": accuracy,
        "macro-F1": macro_f1,
        "types labelled": float(kept.mean()),
        "of them right": float(right[kept].mean()),
        "their confidence": float(confidence[kept].mean()),
        f"coverage at {SELECTIVE:g}": float((np.flatnonzero(running >= SELECTIVE) + 1).max(initial=0) / len(right)),
    } | {name: value for name, value in confidence_scores(right, confidence).items() if name != "mean_confidence"}


def rows(seed: int) -> Iterator[tuple[dict[str, object], dict[str, object]]]:
    """Yield a row of the comparison and a row of our own scores for each case."""
    for case in make_cases(seed):
        ours = score_ours(case, seed)
        found = {name: score(case, peer(case).argmax(axis=1)) for name, peer in PEERS.items()}
        scores = {"ours": (ours["accuracy"], ours["macro-F1"]), **found}
        print(f"{case.name}: {len(case.label):,} cells, {len(case.genes)} genes", flush=True)
        yield (
            {"case": case.name} | {name: f"{accuracy:.3f} / {f1:.3f}" for name, (accuracy, f1) in scores.items()},
            {"case": case.name} | {name: f"{value:.3f}" for name, value in ours.items() if name not in ("accuracy", "macro-F1")},
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    # Of scanpy's ranking of genes, once for each cluster.
    warnings.filterwarnings("ignore", category=pd.errors.PerformanceWarning)
    tables = zip(*rows(parser.parse_args().seed), strict=True)
    for title, table in zip(
        ("accuracy / macro-F1 of lineages, every cell forced to a label", "types, and how sure they are"), tables, strict=True
    ):
        print(f"\n{title}\n{pd.DataFrame(list(table)).to_string(index=False)}")


if __name__ == "__main__":
    main()
