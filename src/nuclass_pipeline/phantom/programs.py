"""The panel, and the genes each class expresses."""

import csv
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from nuclass_pipeline.arrays import Floats

SPECIFIC = 0.55
"""Share of a cell's transcripts that come from the program of its class; the rest is spread over the whole panel."""

# Transcripts of a cell relative to a typical cell. Not 1 for every class, because large and active cells hold more RNA.
_SIZE: dict[str, float] = {
    "Epithelial_Malignant": 1.6,
    "T_Cell": 0.75,
    "B_Cell": 0.8,
    "Macrophage": 1.05,
    "Acinar": 1.25,
    "Endocrine": 1.1,
    "Ductal": 1.15,
}


def read_phantom_panel() -> list[dict[str, str]]:
    """Read the panel in feature order: gene, ensembl_id and category (predesigned_gene or custom_gene)."""
    return _read("panel.tsv")


def read_programs() -> dict[str, dict[str, float]]:
    """Read the program of each class: gene → expected transcripts relative to the other genes of the program."""
    programs: dict[str, dict[str, float]] = {}
    for row in _read("programs.tsv"):
        programs.setdefault(row["class"], {})[row["gene"]] = float(row["weight"])
    return programs


def _read(name: str) -> list[dict[str, str]]:
    with files("nuclass_pipeline.phantom").joinpath(name).open() as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def expected_counts(rng: np.random.Generator, labels: NDArray[np.str_], genes: list[str], median: float) -> Floats:
    """Draw each cell's expected transcripts of each gene.

    Parameters
    ----------
    rng
        Source of randomness.
    labels
        (cells,) class of each cell.
    genes
        Panel in feature order.
    median
        Transcripts of a typical cell.

    Returns
    -------
    NDArray
        (cells, genes) expected transcripts.
    """
    background = rng.lognormal(0, 1.0, len(genes))
    background /= background.sum()
    classes, code = np.unique(labels, return_inverse=True)
    position = {gene: column for column, gene in enumerate(genes)}
    profiles, programs = np.zeros((len(classes), len(genes))), read_programs()
    for row, name in enumerate(classes):
        for gene, weight in programs[str(name)].items():
            profiles[row, position[gene]] = weight
    profiles = SPECIFIC * profiles / profiles.sum(1, keepdims=True) + (1 - SPECIFIC) * background
    size = median * np.array([_SIZE.get(str(name), 1.0) for name in classes])
    total = size[code] * np.exp(rng.normal(0, 0.35, len(labels)))
    # Gamma rates, because Poisson counts of them are negative binomial as in real data. Shape 1.25 is a biological variation of 0.9.
    return np.asarray(total[:, None] * profiles[code] * rng.gamma(1.25, 0.8, (len(labels), len(genes))))
