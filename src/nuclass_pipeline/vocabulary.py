"""Names of classes, lineages and organs, and the one map from raw labels to classes."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from nuclass_pipeline.errors import UserError, similar
from nuclass_pipeline.io.text import read_rows

UNRESOLVED = "Unresolved"

PERSON_SOURCES = ("edit", "provided")
"""Values of `source` in the labels where a person set the label: an edit of a cluster, or a label per cell."""

LINEAGES: dict[str, str] = {
    "Acinar": "Epithelial",
    "B_Cell": "Lymphoid",
    "Cardiomyocyte": "Muscle",
    "Dendritic_Cell": "Myeloid",
    "Ductal": "Epithelial",
    "Endocrine": "Epithelial",
    "Endothelial": "Endothelial",
    "Endothelial_TumorAssociated": "Endothelial",
    "Epithelial_Airway": "Epithelial",
    "Epithelial_Alveolar": "Epithelial",
    "Epithelial_Malignant": "Epithelial",
    "Fibroblast": "Stromal",
    "Macrophage": "Myeloid",
    "Mast_Cell": "Myeloid",
    "Monocyte": "Myeloid",
    "NK_Cell": "Lymphoid",
    "Neutrophil": "Myeloid",
    "Pericyte": "Stromal",
    "Plasma_Cell": "Lymphoid",
    "Smooth_Muscle": "Muscle",
    "T_Cell": "Lymphoid",
    "Tumor_Associated_Fibroblast": "Stromal",
}
"""Lineage of each of the 22 classes."""

CLASSES = tuple(LINEAGES)

PAPER_CLASSES = (
    "Acinar",
    "B_Cell",
    "Cardiomyocyte",
    "Ductal",
    "Endocrine",
    "Endothelial",
    "Endothelial_TumorAssociated",
    "Epithelial_Airway",
    "Epithelial_Alveolar",
    "Epithelial_Malignant",
    "Fibroblast",
    "Macrophage",
    "Mast_Cell",
    "Smooth_Muscle",
    "T_Cell",
    "Tumor_Associated_Fibroblast",
)
"""The 16 classes of the paper, in the order of their columns."""

ORGANS = ("breast", "colon", "heart", "kidney", "liver", "lung", "ovary", "pancreas")
"""Organs in the order of the paper's embedding."""

OTHER_ORGAN = "other"
"""Organ of images whose tissue is of another organ, or of several."""

UNKNOWN_ORGAN = "unknown"
"""Organ of cells of which no organ is given, or one that the models were not trained on."""


_ORGAN_WORDS: dict[str, tuple[str, ...]] = {
    "breast": ("mammary",),
    "colon": ("colonic", "colorectal", "colorectum", "rectal", "rectum"),
    "heart": ("cardiac", "myocardial", "myocardium"),
    "kidney": ("kidneys", "renal"),
    "liver": ("hepatic", "hepatocellular"),
    "lung": ("lungs", "pulmonary"),
    "ovary": ("ovarian", "ovaries"),
    "pancreas": ("pancreatic",),
}
"""Organ → further words by which the name of a tissue says that it is of the organ."""


def organs_named(tissue: str) -> set[str]:
    """Return the organs that the name of a tissue names, such as colon for "Human Colon Cancer FFPE"."""
    words = set(re.findall("[a-z]+", tissue.lower()))
    # Without the h of human too, as in hColon.
    words |= {word[1:] for word in words if word.startswith("h")}
    return {organ for organ, further in _ORGAN_WORDS.items() if words & {organ, *further}}


def embedded_organs(organs: Iterable[str]) -> tuple[str, ...]:
    """Return the organs of the models of slides of `organs`."""
    # Only where it occurs, because a further row would change the first weights of all other models.
    return (*ORGANS, OTHER_ORGAN) if OTHER_ORGAN in organs else ORGANS


ENSEMBL_ID = re.compile(r"ENS[A-Z]{0,4}G\d{11}(\.\d+)?")
"""Id of a gene in Ensembl, of whatever species, with or without its version."""


def natural_key(name: str) -> tuple[bool, int, str]:
    """Return a sort key that puts names of digits first, by their number, and all others after them, by the alphabet."""
    # Not isdigit(), because it accepts superscripts, which int() refuses.
    return (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)


MIN_SEEN_SHARE = 0.5
"""Share of an organ's cell types with a marker on the panel, below which the panel is for another species or tissue."""

GENE_NAME_STYLES = {
    "mouse": "those of a mouse",
    "ensembl": "Ensembl ids without symbols in the bundle",
}
"""Style of gene names → words for a warning."""


def looks_like(names: Iterable[str]) -> Literal["mouse", "ensembl", ""]:
    """Return whether more than half of gene names are written as those of a mouse, or are Ensembl ids; empty if neither."""
    names = list(names)
    # Open reading frames apart, because they are the only human symbols with small letters, as C1orf112.
    mouse = [name for name in names if name != name.upper() and not name[:1].islower() and "orf" not in name]
    ensembl = [name for name in names if ENSEMBL_ID.fullmatch(name)]
    if len(ensembl) > len(names) / 2:
        return "ensembl"
    return "mouse" if len(mouse) > len(names) / 2 else ""


@dataclass(frozen=True)
class LabelMap:
    """Raw label → class; idempotent, and every dropped label has a reason."""

    classes: dict[str, str]
    dropped: dict[str, str]

    def align(self, labels: Iterable[str]) -> "Aligned":
        """Map `labels`; a label without a class becomes `Unresolved` and is counted with its reason."""
        aligned = Aligned()
        for raw in map(str, labels):
            name = self.classes.get(raw)
            aligned.labels.append(name or UNRESOLVED)
            if name is None and raw != UNRESOLVED:
                aligned.dropped[(raw, self.dropped.get(raw, "not in the label map"))] += 1
        return aligned


@dataclass
class Aligned:
    """Labels after alignment, and (raw label, reason) → cells for those without a class."""

    labels: list[str] = field(default_factory=list)
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)


def read_label_map(path: Path | str, own: Iterable[str] = ()) -> LabelMap:
    """Read `raw, class, reason` rows; a row has either a class or a reason. `own` are names of classes beside `CLASSES`.

    Raises
    ------
    UserError
        If a raw label is empty or occurs twice, its class is neither in `CLASSES` nor in `own`, or it has no class and no reason, or both.
    """
    allowed = (*own, *CLASSES)
    classes, dropped = {name: name for name in allowed}, {}
    lines: dict[str, int] = {}
    for line, row in read_rows(path, required=("raw", "class", "reason")).rows:
        raw, name, reason = row["raw"], row["class"], row["reason"]
        if not raw:
            raise UserError(path, f"line {line}, raw", "the raw label is empty", "Fill it in, or remove the row.")
        if raw in lines or classes.get(raw, name) != name:
            other = f"it is also in line {lines[raw]}" if raw in lines else "it is the name of another class"
            raise UserError(path, f"line {line}, raw", f"{raw!r} has two meanings: {other}", "Remove one of its rows.")
        if name and name not in allowed:
            problem = f"{name!r} (raw label {raw!r}) is not a class{similar(name, allowed)}"
            raise UserError(path, f"line {line}, class", problem, f"Use one of {', '.join(allowed)}, or leave it empty and give a reason.")
        if bool(name) == bool(reason):
            problem = f"{raw!r} has {'a class and a reason' if name else 'neither a class nor a reason'}"
            raise UserError(path, f"line {line}", problem, "Give a class, or the reason why its cells get none.")
        lines[raw] = line
        if name:
            classes[raw] = name
        else:
            dropped[raw] = reason
    return LabelMap(classes, dropped)
