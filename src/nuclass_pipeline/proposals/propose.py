"""Propose a label for each cluster of a slide, with the evidence, for a person to review. No cell is labelled by a proposal."""

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
from nuclass_pipeline.expression.counts import cluster_digests, match_cells, read_counts
from nuclass_pipeline.io import quote_row, read_table, whole_file
from nuclass_pipeline.knowledge.markers import Panel, admissible, read_markers, restrict_to_panel
from nuclass_pipeline.proposals.annotators import ClusterAnnotator, RulesAnnotator, null_support
from nuclass_pipeline.proposals.collect import collect_evidence
from nuclass_pipeline.proposals.evidence import ClusterEvidence
from nuclass_pipeline.proposals.language_model import LanguageAnnotator, LanguageModel, Scorer
from nuclass_pipeline.proposals.rationale import Writer, explain
from nuclass_pipeline.schemas import CLUSTERS, LABELS, MARKERS, PROGRAMS
from nuclass_pipeline.vocabulary import PERSON_SOURCES, UNRESOLVED

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
_TIE_RATIONALE = "The evidence does not separate the admissible labels."
_WEAK_RATIONALE = "The markers support no label better than a permuted marker table does."


@dataclass(frozen=True)
class SlideInputs:
    """Tables of a slide that the records of its clusters are built from.

    Attributes
    ----------
    cells
        Columns `cell_id` and `cluster`, in the order of the counts.
    markers, panel, genes, organ, programs, compositions
        As for `collect_evidence`.
    """

    cells: pd.DataFrame
    markers: pd.DataFrame
    panel: Panel
    genes: Sequence[str]
    organ: str
    programs: pd.DataFrame | None
    compositions: Mapping[str, Mapping[str, float]]

    def records(self) -> tuple[ClusterEvidence, ...]:
        """Build the record of each cluster, the largest first."""
        return collect_evidence(**self._shared(), programs=self.programs, compositions=self.compositions)

    def null_support(self) -> float:
        """Compute the support that a label needs, from the permutation null."""
        min_support = null_support(**self._shared())
        logger.info("support that the permutation null reaches in 1 %% of clusters: %.3f", min_support)
        return min_support

    def with_reversed_types(self) -> "SlideInputs":
        """Return the same inputs with the types of the panel in reversed order."""
        return replace(self, panel=Panel(self.panel.types[::-1], self.panel.weights[:, ::-1]))

    def _shared(self) -> dict[str, Any]:
        sizes = self.cells["cluster"].value_counts().to_dict()
        return {"sizes": sizes, "markers": self.markers, "panel": self.panel, "genes": self.genes, "organ": self.organ}


class ProposalFiles(TypedDict):
    """Inputs of the proposals.

    Attributes
    ----------
    counts
        `counts.h5ad` of the slide.
    clusters, markers, labels
        Tables `CLUSTERS`, `MARKERS` and `LABELS` of the same slide.
    knowledge
        Marker table, such as `config/markers.tsv`.
    programs
        Table `PROGRAMS` of the same slide, if the run has a library of gene programs.
    organ
        Organ of the slide; it decides which labels are admissible.
    """

    counts: Path
    clusters: Path
    markers: Path
    labels: Path
    knowledge: Path
    programs: NotRequired[Path | None]
    organ: str


def read_evidence(**files: Unpack[ProposalFiles]) -> SlideInputs:
    """Read the inputs of `propose_labels` and `compare_annotators`."""
    organ, programs = files["organ"], files.get("programs")
    cells = read_counts(files["counts"])
    table = match_cells(read_table(files["clusters"], CLUSTERS, ["cell_id", "cluster"]), cells.obs_names, files["clusters"])
    labels = match_cells(read_table(files["labels"], LABELS, ["cell_id", "label", "candidate", "source"]), cells.obs_names, files["labels"])
    genes = list(cells.var_names)
    return SlideInputs(
        cells=table,
        markers=read_table(files["markers"], MARKERS),
        panel=_panel(restrict_to_panel(read_markers(files["knowledge"]), organ, genes), organ, len(genes)),
        genes=genes,
        organ=organ,
        programs=_reliable(programs) if programs else None,
        compositions=_compositions(table["cluster"], _measured(labels)),
    )


def propose_labels(*, config: ProposalsConfig, threads: int, proposals: Path, **files: Unpack[ProposalFiles]) -> None:
    """Propose a label for each cluster of a slide, the largest cluster first.

    Parameters
    ----------
    config
        The annotator, and its `model` if it needs one.
    threads
        Threads for a language model.
    proposals
        Tab-separated text with the columns `PROPOSAL_COLUMNS`.
    files
        Inputs, as for `read_evidence`.
    """
    inputs = read_evidence(**files)
    min_support = inputs.null_support()
    digests = cluster_digests(inputs.cells)
    annotator, writer = _annotator(config, threads)
    # Ties by digest, because the names of clusters are arbitrary and must not change the order.
    records = sorted(inputs.records(), key=lambda record: (-record.n_cells, digests[record.cluster]))
    _write(
        [(record.cluster, record.n_cells, digests[record.cluster], *propose(record, annotator, writer, min_support)) for record in records],
        proposals,
    )


def _panel(panel: Panel, organ: str, genes: int) -> Panel:
    names = admissible(organ)
    # All types with zero weights, because a record needs labels; without support they tie, and the proposal is Unresolved.
    return panel if panel.types else Panel(names, np.zeros((genes, len(names))))


def _reliable(programs: Path) -> pd.DataFrame:
    table = read_table(programs, PROGRAMS)
    return table[table["rank"] > 0].fillna({"genes": ""})


def _measured(labels: pd.DataFrame) -> pd.Series:
    # The candidate where a person set the label, because an edit must not become evidence for the proposal of its own cluster.
    by_person = labels["source"].isin(PERSON_SOURCES)
    return labels["label"].where(~by_person, labels["candidate"].fillna(UNRESOLVED))


def _compositions(clusters: pd.Series, labels: pd.Series) -> dict[str, dict[str, float]]:
    shares = pd.crosstab(clusters, labels, normalize="index")
    return {str(name): {str(label): float(share) for label, share in row.items() if share > 0} for name, row in shares.iterrows()}


def _annotator(config: ProposalsConfig, threads: int) -> tuple[ClusterAnnotator, Writer | None]:
    if config.annotator == "rules":
        return RulesAnnotator(), None
    model = LanguageModel(str(config.model), threads)
    return LanguageAnnotator(cast(Scorer, model)), model


def propose(
    evidence: ClusterEvidence, annotator: ClusterAnnotator, writer: Writer | None = None, min_support: float = 0.0
) -> tuple[str, ...]:
    """Propose the label of one cluster.

    The proposal is the most probable label. It is Unresolved if the next is as probable, or if the markers support no label by
    `min_support`.

    Parameters
    ----------
    evidence
        Record of the cluster.
    annotator
        Ranks the admissible labels.
    writer
        Language model that writes the rationale; None for a fixed sentence.
    min_support
        Support that the best supported label needs, 0 to 1.

    Returns
    -------
    The values of `PROPOSAL_COLUMNS` from `proposal` on, as text.
    """
    scores = annotator.rank(evidence)
    ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    (best, log_p), following = ranked[0], ranked[1:2]
    tied, weak = choose_label(scores) is None, is_weak(evidence, min_support)
    return (
        UNRESOLVED if tied or weak else best,
        f"{math.exp(log_p):.3f}",
        "".join(f"{label} {math.exp(other):.3f}" for label, other in following),
        _shares(evidence.composition),
        "; ".join(f"{marker.gene} {marker.log2fc:.1f}" for marker in evidence.markers[:_SHOWN_MARKERS]),
        "" if tied else ", ".join(gene for support in evidence.support if support.label == best for gene in support.genes),
        "; ".join(f"{program.name} (q {program.q:.2g}: {', '.join(program.genes)})" for program in evidence.programs),
        _TIE_RATIONALE if tied else _WEAK_RATIONALE if weak else explain(evidence, best, writer),
    )


def choose_label(scores: Mapping[str, float]) -> str | None:
    """Return the label with the highest log probability; None for a tie, such as without evidence."""
    best = max(scores.values())
    # 1e-9, because rounding separates log probabilities that are equal by construction, such as a uniform answer's.
    top_labels = [label for label, log_p in scores.items() if best - log_p < 1e-9]
    return top_labels[0] if len(top_labels) == 1 else None


def is_weak(evidence: ClusterEvidence, min_support: float) -> bool:
    """Return whether the markers support no label at all, or none by `min_support`."""
    best = max((support.score for support in evidence.support), default=0.0)
    return best == 0 or best < min_support


def _shares(composition: Mapping[str, float]) -> str:
    shown = sorted(((share, label) for label, share in composition.items() if share >= _SHOWN_SHARE), key=lambda item: (-item[0], item[1]))
    return "; ".join(f"{label} {share:.0%}".replace("%", " %") for share, label in shown)


def _write(rows: Sequence[Sequence[str | int]], path: Path) -> None:
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow(PROPOSAL_COLUMNS)
        writer.writerows(map(quote_row, rows))
