"""Labels of a reference, such as a single-cell atlas, transferred to the cells of a slide; no label of a slide depends on them."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.data.tables.annotated import read_annotated
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.expression.counts import match_cells, read_counts
from nuclass_pipeline.io import quote_table, read_table, whole_files, write_json
from nuclass_pipeline.io.cell_columns import read_obs_column
from nuclass_pipeline.labeling.hand_made import LABEL_COLUMNS
from nuclass_pipeline.labeling.names import match_names
from nuclass_pipeline.schemas import LABELS
from nuclass_pipeline.vocabulary import UNRESOLVED, read_label_map

logger = logging.getLogger(__name__)

MIN_SHARED_GENES = 20
"""Fewer genes in common separate no types."""
MIN_PER_LABEL, MAX_PER_LABEL = 10, 1000
"""Cells of a label below which it is left out, and above which cells are drawn at random."""
REFERENCE_FOLDS = 3
CELLS_AT_ONCE = 20_000
"""Cells that are standardised together, because that takes 8 bytes for each gene."""


def label_by_reference(
    *, counts: Path, labels: Path, reference: Path, column: str | None, label_map: Path, seed: int, probabilities: Path, agreement: Path
) -> None:
    """Write the probability of each label of a reference for each cell, and how often the likeliest one is the label of the cell.

    Parameters
    ----------
    counts, labels
        `counts.h5ad`, and table `LABELS` of the same cells.
    reference, column
        AnnData file with counts, and its column of labels; see `read_annotated` and `read_obs_column`.
    label_map
        `config/labels.tsv`. Names of the reference that mean no class are used as they are, because all compete for the cells.
    seed
        Seed of the cells that are drawn.
    probabilities
        CSV: `cell_id`, likeliest `label` and its `probability`, `p_<label>`. Empty for cells without transcripts of the genes in common.
    agreement
        JSON: `agree` of `labelled` cells, and the accuracy on held-out cells of the reference.

    Raises
    ------
    UserError
        If the reference cannot be read, or `transfer_labels` raises it.
    """
    cells, table = read_counts(counts), read_annotated(reference)
    named = read_obs_column(reference, LABEL_COLUMNS, column)
    meant = match_names({name for name in named if name.casefold() not in ("", UNRESOLVED.casefold())}, read_label_map(label_map), {})
    label = {name: name if match.label == UNRESOLVED else match.label for name, match in meant.items()}
    genes = list(cells.var_names), list(table.features["name"])
    found, accuracy = transfer_labels(cells.X, genes[0], table.counts, genes[1], [label.get(name, "") for name in named], seed)
    best = found.fillna(-1.0).idxmax(axis=1).where(found.notna().all(axis=1)).to_numpy(object)
    frame = pd.DataFrame({"cell_id": cells.obs_names, "label": best, "probability": found.max(axis=1).to_numpy()})
    own = match_cells(read_table(labels, LABELS), cells.obs_names, labels)["label"].to_numpy(object)
    labelled = own != UNRESOLVED
    record = {"agree": int((own == best)[labelled].sum()), "labelled": int(labelled.sum()), "held_out_accuracy": round(accuracy, 4)}
    with whole_files(probabilities, agreement) as (csv_partial, json_partial):
        quote_table(pd.concat([frame, found.add_prefix("p_")], axis=1)).round(4).to_csv(csv_partial, index=False)
        write_json(record, json_partial)


def check_reference(reference: Path, column: str | None) -> None:
    """Raise `UserError` if fewer than two labels of a reference have `MIN_PER_LABEL` cells; its counts are not read."""
    named = Counter(
        name for name in read_obs_column(reference, LABEL_COLUMNS, column) if name.casefold() not in ("", UNRESOLVED.casefold())
    )
    _check_labels(reference, sum(cells >= MIN_PER_LABEL for cells in named.values()))


def _check_labels(reference: Path | str, enough: int) -> None:
    if enough < 2:
        problem = f"{enough} labels have {MIN_PER_LABEL} cells or more, and two are needed"
        raise UserError(reference, "labels", problem, "Use a reference with more labelled cells.")


def transfer_labels(
    counts: sparse.csr_matrix,
    genes: Sequence[str],
    reference: sparse.csr_matrix,
    reference_genes: Sequence[str],
    labels: Sequence[str],
    seed: int = 0,
) -> tuple[pd.DataFrame, float]:
    """Return the probability of each label of a reference for each cell, and the accuracy on held-out cells of the reference.

    A multinomial logistic regression is fitted on the genes in common: counts per cell scaled to the median depth of the slide, logged, and
    standardised by gene. Slide and reference are standardised apart, because each technology has an efficiency of its own for each gene.
    This assumes that both hold similar shares of the types.

    Parameters
    ----------
    counts, genes
        Raw counts of the slide, (cells, genes), and the names of the genes.
    reference, reference_genes
        The same of the reference.
    labels
        Label of each cell of the reference; those with an empty one are not used.
    seed
        Seed of the cells that are drawn.

    Returns
    -------
    probabilities, accuracy
        Table (cells, labels), NaN for cells without a transcript of these genes; mean over labels of the share that is right.

    Raises
    ------
    UserError
        If fewer than `MIN_SHARED_GENES` genes are in common, or fewer than two labels have `MIN_PER_LABEL` cells.
    """
    shared = sorted(set(genes) & set(reference_genes))
    if len(shared) < MIN_SHARED_GENES:
        example = f"here {next(iter(reference_genes), '')}, there {next(iter(genes), '')}"
        problem = f"{len(shared)} genes are in common with the slide, and {MIN_SHARED_GENES} are needed; {example}"
        raise UserError("reference", "genes", problem, "Use a reference whose genes are named alike.")
    ours, theirs = _columns(counts, genes, shared), _columns(reference, reference_genes, shared)
    depth = _depth(ours)
    target = float(np.median(depth[depth > 0])) if depth.any() else 1.0
    rows, names = _draw(np.asarray(labels, object), _depth(theirs) > 0, seed)
    x = _standardized(_log_rates(theirs[rows], target))[0]
    model = LogisticRegression(C=0.1, class_weight="balanced", max_iter=300)
    accuracy = float(np.mean(cross_val_score(model, x, names, cv=REFERENCE_FOLDS, scoring="balanced_accuracy")))
    logger.info("%d genes in common, %d cells of %d labels, %.3f right on held-out ones", len(shared), len(rows), len(set(names)), accuracy)
    model.fit(x, names)
    found = np.full((counts.shape[0], len(model.classes_)), np.nan)
    blocks = _standardized(_log_rates(ours[depth > 0], target), CELLS_AT_ONCE)
    found[depth > 0] = np.vstack([model.predict_proba(block) for block in blocks])
    return pd.DataFrame(found, columns=model.classes_), accuracy


def _columns(x: sparse.csr_matrix, genes: Sequence[str], wanted: Sequence[str]) -> sparse.csr_matrix:
    position = {gene: i for i, gene in enumerate(genes)}
    return sparse.csr_matrix(x.tocsc()[:, [position[gene] for gene in wanted]])


def _depth(x: sparse.csr_matrix) -> Floats:
    return np.asarray(x.sum(axis=1), dtype=np.float64).ravel()


def _draw(labels: NDArray[np.object_], usable: NDArray[np.bool_], seed: int) -> tuple[NDArray[np.int64], NDArray[np.object_]]:
    """Return rows of the reference, up to `MAX_PER_LABEL` of each label, and their labels."""
    rng = np.random.default_rng(seed)
    rows = [np.flatnonzero((labels == name) & usable) for name in sorted(set(labels[labels != ""]))]
    rows = [rng.permutation(found)[:MAX_PER_LABEL] for found in rows if len(found) >= MIN_PER_LABEL]
    _check_labels("reference", len(rows))
    drawn = np.concatenate(rows)
    return drawn, labels[drawn]


def _log_rates(x: sparse.csr_matrix, target: float) -> sparse.csr_matrix:
    return sparse.csr_matrix(sparse.diags_array(target / _depth(x)) @ x).log1p()


def _standardized(x: sparse.csr_matrix, rows: int | None = None) -> list[Floats]:
    """Return dense blocks of rows, each gene with mean 0 and variance 1 over all of them; one block without `rows`."""
    mean = _mean(x)
    spread = np.sqrt(np.maximum(_mean(x.multiply(x)) - mean**2, 0))
    scale = np.where(spread > 1e-9, spread, 1)
    starts = range(0, x.shape[0], rows or max(x.shape[0], 1))
    return [(x[start : start + (rows or x.shape[0])].toarray() - mean) / scale for start in starts]


def _mean(x: sparse.csr_matrix) -> Floats:
    return np.asarray(x.mean(axis=0), dtype=np.float64).ravel()
