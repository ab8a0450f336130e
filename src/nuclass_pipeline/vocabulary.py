"""Names of classes, lineages and organs, and the one map from raw labels to classes."""

import csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from nuclass_pipeline.errors import UserError

UNRESOLVED = "Unresolved"

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


def natural_key(name: str) -> tuple[bool, int, str]:
    """Return a sort key that puts names of digits first, by their number, and all others after them, by the alphabet."""
    # Not isdigit(), because it accepts superscripts, which int() refuses.
    return (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)


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


def read_label_map(path: Path | str) -> LabelMap:
    """Read `raw, class, reason` rows; a row has either a class or a reason.

    Raises
    ------
    UserError
        If a raw label occurs twice, or its class is not one of `CLASSES`.
    """
    classes, dropped = {name: name for name in CLASSES}, {}
    with Path(path).open(newline="") as stream:
        for row in csv.DictReader(stream, delimiter="\t"):
            raw, name = row["raw"], row["class"]
            if raw in dropped or classes.get(raw, name) != name:
                raise UserError(path, "raw", f"{raw!r} has two meanings", "Remove one of its rows.")
            if name and name not in CLASSES:
                raise UserError(path, "class", f"{name!r} (raw label {raw!r}) is not a class", f"Use one of {', '.join(CLASSES)}.")
            if name:
                classes[raw] = name
            else:
                dropped[raw] = row["reason"]
    return LabelMap(classes, dropped)
