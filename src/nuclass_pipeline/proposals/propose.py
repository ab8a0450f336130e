"""What each cluster of a slide looks like, with the evidence, for a person to judge. No cell is labelled by it."""

import csv
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict, Unpack, cast

import numpy as np
import pandas as pd

from nuclass_pipeline.config.labeling import ProposalsConfig
from nuclass_pipeline.expression.counts import match_cells, read_counts
from nuclass_pipeline.io import read_table, whole_file
from nuclass_pipeline.knowledge.markers import Panel, admissible, read_markers, restrict_to_panel
from nuclass_pipeline.labeling.overrides import cluster_digests
from nuclass_pipeline.proposals.annotators import ClusterAnnotator, RulesAnnotator, null_support
from nuclass_pipeline.proposals.evidence import ClusterEvidence, collect_evidence
from nuclass_pipeline.proposals.language_model import LanguageAnnotator, LanguageModel, Reader
from nuclass_pipeline.proposals.rationale import Writer, explain
from nuclass_pipeline.schemas import CLUSTERS, LABELS, MARKERS, PROGRAMS
from nuclass_pipeline.vocabulary import UNRESOLVED

logger = logging.getLogger(__name__)

PROPOSAL_COLUMNS = (
    "cluster",
    "n_cells",
    "digest",
    "proposal",
    "probability",
    "runner_up",
    "cell_labels",
    "markers",
    "support",
    "programs",
    "rationale",
)
"""Columns of proposals.tsv."""

_SHOWN_MARKERS, _SHOWN_SHARE = 10, 0.01
_APART = "The evidence does not tell the admissible labels apart."
_NO_BETTER_THAN_NULL = "The markers support no label better than a marker table dealt at random would."


@dataclass(frozen=True)
class SlideInputs:
    """What is known about the clusters of a slide, before it is one record per cluster.

    `cells` has the columns `cell_id` and `cluster`, in the order of the counts; the other fields are as for `collect_evidence`.
    """

    cells: pd.DataFrame
    markers: pd.DataFrame
    panel: Panel
    genes: Sequence[str]
    organ: str
    programs: pd.DataFrame | None
    compositions: Mapping[str, Mapping[str, float]]

    def records(self) -> tuple[ClusterEvidence, ...]:
        """Make the record of each cluster, the largest first."""
        return collect_evidence(**self._known(), programs=self.programs, compositions=self.compositions)

    def chance(self) -> float:
        """Give the support that chance reaches once in a hundred."""
        least = null_support(**self._known())
        logger.info("support that chance reaches once in a hundred: %.3f", least)
        return least

    def backwards(self) -> "SlideInputs":
        """Give the same with the types of the panel in reversed order."""
        return replace(self, panel=Panel(self.panel.types[::-1], self.panel.weights[:, ::-1]))

    def _known(self) -> dict[str, Any]:
        sizes = self.cells["cluster"].value_counts().to_dict()
        return {"sizes": sizes, "markers": self.markers, "panel": self.panel, "genes": self.genes, "organ": self.organ}


class ProposalFiles(TypedDict):
    """What the clusters of a slide are judged by.

    `counts` is `counts.h5ad`; `clusters`, `markers`, `labels` and, if programmes were sought, `programs` are tables of the same slide,
    `CLUSTERS`, `MARKERS`, `LABELS` and `PROGRAMS`; `knowledge` is the marker table. `organ` decides which labels are admissible.
    """

    counts: Path
    clusters: Path
    markers: Path
    labels: Path
    knowledge: Path
    programs: NotRequired[Path | None]
    organ: str


def read_evidence(**files: Unpack[ProposalFiles]) -> SlideInputs:
    """Read what `propose_labels` and `compare_annotators` judge by."""
    organ, programs = files["organ"], files.get("programs")
    cells = read_counts(files["counts"])
    table = match_cells(read_table(files["clusters"], CLUSTERS, ["cell_id", "cluster"]), cells.obs_names, files["clusters"])
    own = match_cells(read_table(files["labels"], LABELS, ["cell_id", "candidate"]), cells.obs_names, files["labels"])["candidate"]
    genes = list(cells.var_names)
    return SlideInputs(
        cells=table,
        markers=read_table(files["markers"], MARKERS),
        panel=_panel(restrict_to_panel(read_markers(files["knowledge"]), organ, genes), organ, len(genes)),
        genes=genes,
        organ=organ,
        programs=_reliable(programs) if programs else None,
        compositions=_compositions(table["cluster"], own.fillna(UNRESOLVED)),
    )


def propose_labels(*, config: ProposalsConfig, threads: int, proposals: Path, **files: Unpack[ProposalFiles]) -> None:
    """Propose a label for each cluster of a slide, the largest cluster first.

    Parameters
    ----------
    config
        `annotator`, and the `model` if it needs one.
    threads
        Threads for a language model.
    proposals
        Tab-separated text with `COLUMNS`.
    files
        What the clusters are judged by.
    """
    known = read_evidence(**files)
    least = known.chance()
    digests = cluster_digests(known.cells)
    annotator, writer = _annotator(config, threads)
    # In an order that does not depend on what the clusters are called.
    records = sorted(known.records(), key=lambda record: (-record.n_cells, digests[record.cluster]))
    _write(
        [(record.cluster, record.n_cells, digests[record.cluster], *propose(record, annotator, writer, least)) for record in records],
        proposals,
    )


def _panel(panel: Panel, organ: str, genes: int) -> Panel:
    """Keep the question open where the panel has no marker of any admissible type: nothing then speaks for any of them."""
    names = admissible(organ)
    return panel if panel.types else Panel(names, np.zeros((genes, len(names))))


def _reliable(programs: Path) -> pd.DataFrame:
    table = read_table(programs, PROGRAMS)
    return table[table["rank"] > 0].fillna({"genes": ""})


def _compositions(clusters: pd.Series, labels: pd.Series) -> dict[str, dict[str, float]]:
    shares = pd.crosstab(clusters, labels, normalize="index")
    return {str(name): {str(label): float(share) for label, share in row.items() if share > 0} for name, row in shares.iterrows()}


def _annotator(config: ProposalsConfig, threads: int) -> tuple[ClusterAnnotator, Writer | None]:
    if config.annotator == "rules":
        return RulesAnnotator(), None
    model = LanguageModel(str(config.model), threads)
    return LanguageAnnotator(cast(Reader, model)), model


def propose(evidence: ClusterEvidence, annotator: ClusterAnnotator, writer: Writer | None = None, least: float = 0.0) -> tuple[str, ...]:
    """Give what `COLUMNS` say of one cluster, from `proposal` on, as text.

    The proposal is the most probable label. It is Unresolved if the next is as probable, as it is where nothing is known, and if its
    markers support no label by `least`, which chance may reach.
    """
    scores = annotator.rank(evidence)
    ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    (best, log_p), following = ranked[0], ranked[1:2]
    tied, weak = choose_label(scores) is None, is_weak(evidence, least)
    return (
        UNRESOLVED if tied or weak else best,
        f"{math.exp(log_p):.3f}",
        "".join(f"{label} {math.exp(other):.3f}" for label, other in following),
        _shares(evidence.composition),
        "; ".join(f"{marker.gene} {marker.log2fc:.1f}" for marker in evidence.markers[:_SHOWN_MARKERS]),
        "" if tied else ", ".join(gene for support in evidence.support if support.label == best for gene in support.genes),
        "; ".join(f"{program.name} (q {program.q:.2g}: {', '.join(program.genes)})" for program in evidence.programs),
        _APART if tied else _NO_BETTER_THAN_NULL if weak else explain(evidence, best, writer),
    )


def choose_label(scores: Mapping[str, float]) -> str | None:
    """Give the label with the highest log probability; None where another has the same, as where nothing is known."""
    best = max(scores.values())
    chosen = [label for label, log_p in scores.items() if best - log_p < 1e-9]
    return chosen[0] if len(chosen) == 1 else None


def is_weak(evidence: ClusterEvidence, least: float) -> bool:
    """Say whether the markers support no label by `least`."""
    return max((support.score for support in evidence.support), default=0.0) < least


def _shares(composition: Mapping[str, float]) -> str:
    shown = sorted(((share, label) for label, share in composition.items() if share >= _SHOWN_SHARE), key=lambda item: (-item[0], item[1]))
    return "; ".join(f"{label} {share:.0%}".replace("%", " %") for share, label in shown)


def _write(rows: Sequence[Sequence[str | int]], path: Path) -> None:
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow(PROPOSAL_COLUMNS)
        writer.writerows(rows)
