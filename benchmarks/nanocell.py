"""The decisions of the public NanoCellAnnotator beside our proposals, cluster by cluster.

    python benchmarks/nanocell.py results/demo/slides/demo-lung-1 --organ lung [--truth resources/synthetic/demo-lung-1/truth.parquet]

The formulas are those of the published tool; `tests/benchmarks/test_nanocell.py` checks them against its own output. They count a p value
of 0 as no significance, reach a confidence of 0.9 at most, and depend on how many labels compete. Scores are built from our marker table
and the slide's `markers.parquet`: each gene has one label, its heaviest type in the organ, and every match is exact. The tool's 14 label
aliases and its keyword lists are left out, so no gene program counts for a lineage.
"""

import argparse
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from scipy.special import softmax
from scipy.stats import entropy as shannon

from nuclass_pipeline.io import read_table, require
from nuclass_pipeline.knowledge.markers import TYPES, Marker, admissible, read_markers
from nuclass_pipeline.proposals.ablation import cluster_truth
from nuclass_pipeline.schemas import CLUSTERS, MARKERS
from nuclass_pipeline.vocabulary import UNRESOLVED

ROOT = Path(__file__).parents[1]
TOP_MARKERS, EXACT_MATCH = 20, 100.0
# All mass on "other", because that is what the tool assumes of a cluster without gene programs.
NO_PROGRAMS = {"other": 1.0}
MIN_COVERAGE, MIN_SCORE, MIN_MARGIN, MAX_ENTROPY = 0.25, 1.25, 0.20, 1.35
HIGH, MODERATE = 0.70, 0.50
CATCH_ALL = frozenset({"normal cell", "cell", "other", "unknown", "uncharacterized", "unspecified"})
"""Labels without meaning, which are dropped before agreement is counted."""


def _clamp(x: float) -> float:
    return min(1.0, max(0.0, x))


def canonical(label: str) -> str:
    """Reduce a label to its key: lower case, without parentheses and their content, punctuation or a final s.

    Letters outside a–z count as punctuation, as in the published tool.
    """
    bare = re.sub(r"\([^)]*\)", " ", label.lower())
    return re.sub(r"s$", "", " ".join(re.sub(r"[^a-z0-9]+", " ", bare).split()))


def marker_weight(log2fc: float | None, fraction_in: float | None, fraction_out: float | None, p_adjusted: float | None) -> float:
    """Compute a marker's weight from effect, excess prevalence and significance, 0 to 3.25; missing inputs (None) add nothing.

    1.5 · log2fc/2.5 + 1.0 · (in − out)/0.5 + 0.75 · −log10(p)/6, each ratio cut to 0–1; a p of 0 adds nothing.
    """
    weight = 0.0
    if log2fc is not None:
        weight += 1.5 * _clamp(log2fc / 2.5)
    if fraction_in is not None and fraction_out is not None:
        weight += _clamp((fraction_in - fraction_out) / 0.5)
    if p_adjusted is not None and p_adjusted > 0:
        weight += 0.75 * _clamp(-np.log10(p_adjusted) / 6)
    return float(weight)


def database_weight(match_score: float) -> float:
    """Scale the match of a gene to the database, 0 to 100, so that 80 becomes 0 and 100 becomes 1."""
    return _clamp((match_score - 80) / 20)


def contribution(weight: float, match_score: float) -> float:
    """Reduce a marker's weight by up to 40 % for a poor match."""
    return weight * (0.6 + 0.4 * database_weight(match_score))


def label_scores(contributions: Sequence[tuple[str | None, float]], signal: Mapping[str, float] | None = None) -> dict[str, float]:
    """Add up the contributions of markers to their labels (None: the gene is unknown).

    `signal` is the share of gene programs of each lineage; the strongest one adds up to 5 % to all scores.
    """
    scores: dict[str, float] = {}
    for label, value in contributions:
        if label is not None:
            scores[canonical(label)] = scores.get(canonical(label), 0.0) + value
    bonus = 1 + 0.05 * max((signal or {}).values(), default=0.0)
    return {label: score * bonus for label, score in scores.items()}


def margin(first: float, second: float) -> float:
    """Return (s1 − s2) / max(1e-6, s1)."""
    return (first - second) / max(1e-6, first)


def confidence(first: float, gap: float, coverage: float, entropy: float) -> float:
    """Combine the best score, its margin (`gap`), the share of markers with a label and the entropy (nats), 0 to 0.9.

    [0.45 · s1/4 + 0.25 · gap/0.5 + 0.20 · (coverage − 0.25)/0.75] · [1 − 0.25 · (H − 0.5)/1.5], each ratio cut to 0–1.
    """
    support = 0.45 * _clamp(first / 4) + 0.25 * _clamp(gap / 0.5) + 0.20 * _clamp((coverage - 0.25) / 0.75)
    return _clamp(support * (1 - 0.25 * _clamp((entropy - 0.5) / 1.5)))


@dataclass(frozen=True)
class Decision:
    """The decision on a cluster.

    Attributes
    ----------
    status
        HIGH, MEDIUM, AMBIGUOUS or UNRESOLVED.
    reason
        accepted, or the first objection.
    confidence
        0 to 0.9.
    """

    status: str
    reason: str
    confidence: float


def decide(first: float, second: float, coverage: float, entropy: float) -> Decision:
    """Accept a label, or reject it by the first objection.

    Parameters
    ----------
    first, second
        Best and second-best score; 0 where there is none.
    coverage
        Share of the markers that have a label.
    entropy
        Of the softmax of all scores, nats.
    """
    if first <= 0 or coverage < MIN_COVERAGE:
        return Decision("UNRESOLVED", "no_scores" if first <= 0 else "low_coverage", 0.0)
    gap = margin(first, second)
    value = confidence(first, gap, coverage, entropy)
    objections = {"low_top_score": first < MIN_SCORE, "small_margin": gap < MIN_MARGIN, "high_entropy": entropy > MAX_ENTROPY}
    for reason, holds in objections.items():
        if holds:
            return Decision("AMBIGUOUS", reason, value)
    return Decision("HIGH" if value >= HIGH else "MEDIUM", "accepted", value)


def rank(scores: Mapping[str, float]) -> list[str]:
    """List the labels by falling score; ties in the order of their names."""
    return sorted(scores, key=lambda label: (-scores[label], label))


def decide_cluster(scores: Mapping[str, float], coverage: float) -> Decision:
    """Decide on a cluster from the scores of its labels."""
    ordered = sorted(scores.values(), reverse=True)
    first, second = [*ordered, 0.0, 0.0][:2]
    spread = float(shannon(softmax(ordered))) if ordered else 0.0
    return decide(first, second, coverage, spread)


@dataclass(frozen=True)
class Audit:
    """Comparison of a given label with the scores.

    Attributes
    ----------
    support
        Score of the label ÷ 4, 0 to 1.
    rank
        1 for the best score, −1 for a label without score.
    combined
        0.75 · support + 0.25 · consistency of its lineage with the gene programs.
    flag
        ok, or the first objection.
    """

    support: float
    rank: int
    combined: float
    flag: str


def audit(label: str, scores: Mapping[str, float], lineage: str, signal: Mapping[str, float]) -> Audit:
    """Compare a label with the scores, and its lineage with the gene programs."""
    key, order = canonical(label), rank(scores)
    support, consistency = _clamp(scores.get(key, 0.0) / 4), signal.get(lineage, 0.0)
    place = order.index(key) + 1 if key in scores else -1
    flags = {"not_in_candidates": place < 0, "weak": support < 0.35, "slim_inconsistent": lineage != "other" and consistency < 0.20}
    return Audit(support, place, 0.75 * support + 0.25 * consistency, next((flag for flag, holds in flags.items() if holds), "ok"))


def tier(value: float) -> str:
    """Return the tier of a confidence, which the published evaluation derives from the number alone, whatever the decision was."""
    return "High" if value >= HIGH else "Moderate" if value >= MODERATE else "Low"


def agreement(labels: Sequence[str], candidates: Sequence[Sequence[str]], cells: Sequence[int], k: int) -> float:
    """Compute the share of cells whose cluster's label is among its first `k` candidates; catch-all candidates are dropped.

    A missing label is an empty text. Agreement of a label with the candidates it was chosen from is self-consistency, not accuracy.
    """
    kept = [[key for key in map(canonical, names) if key not in CATCH_ALL][:k] for names in candidates]
    agreed = (n for label, names, n in zip(labels, kept, cells, strict=True) if canonical(label) in names)
    return sum(agreed) / sum(cells)


def gene_labels(markers: Sequence[Marker], organ: str) -> dict[str, str]:
    """Return one type per gene, as in the published knowledge base: the heaviest in the organ, the first row of a tie."""
    types = set(admissible(organ))
    best: dict[str, Marker] = {}
    for marker in markers:
        held = organ in marker.organs and marker.type in types and marker.weight > 0
        if held and (marker.gene not in best or marker.weight > best[marker.gene].weight):
            best[marker.gene] = marker
    return {gene: marker.type for gene, marker in best.items()}


def published_scores(markers: pd.DataFrame, labels: Mapping[str, str]) -> tuple[dict[str, float], float]:
    """Compute the label scores of a cluster from its rows of the table `MARKERS`, and the share of markers with a label."""
    top = markers.sort_values(["p_adjusted", "log2fc"], ascending=[True, False], kind="stable").head(TOP_MARKERS)
    columns = (top[name].tolist() for name in ("gene", "log2fc", "fraction_in", "fraction_out", "p_adjusted"))
    contributions = [(labels.get(gene), contribution(marker_weight(*inputs), EXACT_MATCH)) for gene, *inputs in zip(*columns, strict=True)]
    coverage = float(np.mean([label is not None for label, _ in contributions])) if contributions else 0.0
    return label_scores(contributions, NO_PROGRAMS), coverage


def compare_slide(folder: Path, organ: str, knowledge: Path, truth: Path | None = None) -> pd.DataFrame:
    """Compare the proposals in `results/<run>/slides/<slide>` with the published decisions, one row per cluster.

    `knowledge` is the marker table, and `truth` the table `TRUTH` of the same cells, if there is one.
    """
    labels, type_of = gene_labels(read_markers(knowledge), organ), {canonical(name): name for name in TYPES}
    markers = read_table(folder / "markers.parquet", MARKERS)
    true = cluster_truth(truth, read_table(folder / "clusters.parquet", CLUSTERS, ["cell_id", "cluster"])) if truth else {}
    proposals = pd.read_csv(require(folder / "proposals.tsv"), sep="\t", dtype=str, keep_default_na=False)
    rows = []
    for ours in proposals.to_dict("records"):
        scores, coverage = published_scores(markers[markers["cluster"] == ours["cluster"]], labels)
        decision, candidates = decide_cluster(scores, coverage), [type_of[key] for key in rank(scores)]
        # "other" as the lineage, because consistency with gene programs cannot be computed without the tool's keyword lists.
        audited = audit(ours["proposal"], scores, "other", NO_PROGRAMS)
        rows.append(
            {"cluster": ours["cluster"], "cells": int(ours["n_cells"]), "truth": true.get(ours["cluster"], "")}
            | {"proposal": ours["proposal"], "p": ours["probability"], "published": candidates[0] if candidates else ""}
            | vars(decision)
            | {"tier": tier(decision.confidence), "rank of ours": audited.rank, "flag of ours": audited.flag, "candidates": candidates}
        )
    return pd.DataFrame(rows)


def truth_rows(clusters: pd.DataFrame) -> Iterator[tuple[str, ...]]:
    """Yield how often each rule names a cluster, and how often rightly; clusters without truth are left out."""
    scored = clusters[clusters["truth"] != ""]
    published = scored["published"]
    for name, labels in {
        "our proposals": scored["proposal"].replace(UNRESOLVED, ""),
        "published, accepted": published.where(scored["reason"] == "accepted", ""),
        "published, tier High or Moderate": published.where(scored["tier"] != "Low", ""),
        "published, best label": published,
    }.items():
        named, right = labels != "", labels == scored["truth"]
        n, n_named, n_right = (scored["cells"][some].sum() for some in (labels.notna(), named, right))
        shares = (f"{part / whole:.3f}" if whole else "" for part, whole in ((n_named, n), (n_right, n_named)))
        yield name, f"{named.sum()} of {len(scored)}", f"{right.sum()} of {named.sum()}", *shares


def self_consistency_rows(clusters: pd.DataFrame) -> Iterator[tuple[str, ...]]:
    """Yield the published evaluation, by tier: the share of cells whose cluster's proposal is among its first candidates."""
    for name, tiers in {"all": ("High", "Moderate", "Low"), "High or Moderate": ("High", "Moderate"), "High": ("High",)}.items():
        kept = clusters[clusters["tier"].isin(tiers)]
        given = kept["proposal"].tolist(), kept["candidates"].tolist(), kept["cells"].tolist()
        yield name, str(kept["cells"].sum()), *(f"{agreement(*given, k):.3f}" if len(kept) else "" for k in (1, 2, 3, 5))


def show(console: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row))
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="results/<run>/slides/<slide>")
    parser.add_argument("--organ", required=True, help="organ of the slide")
    parser.add_argument("--markers", type=Path, default=ROOT / "config/markers.tsv", help="marker table")
    parser.add_argument("--truth", type=Path, help="truth.parquet of the slide")
    options = parser.parse_args()
    clusters = compare_slide(options.folder, options.organ, options.markers, options.truth)
    # Wide enough for all columns where the output is not a terminal.
    console, shown = Console(width=190), clusters.drop(columns="candidates", errors="ignore")
    show(console, "Our proposals and the published decisions", [*map(str, shown)], shown.itertuples(index=False))
    if len(clusters) and options.truth:
        show(console, "Agreement with the truth", ("rule", "clusters named", "right", "cells named", "right"), truth_rows(clusters))
    if len(clusters):
        columns = ("tier", "cells", "first", "first 2", "first 3", "first 5")
        show(console, "Proposals among the first published candidates, share of cells", columns, self_consistency_rows(clusters))


if __name__ == "__main__":
    main()
