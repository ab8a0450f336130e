"""Style of all figures: fonts, sizes, one colour per class, and how files are saved."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nuclass_pipeline.arrays import Floats
from nuclass_pipeline.io import whole_files
from nuclass_pipeline.vocabulary import CLASSES, UNRESOLVED

WIDTH_IN = 7.0
"""Width of a figure over two columns of a page, inches."""
SMALL_PT = 6.0
"""Smallest text, so that it can be read in print at two columns (178 mm)."""
INK = "#222222"
FAINT = "#d9d9d9"

RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "axes.labelsize": 7,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "savefig.dpi": 300,
    # TrueType, because text in the PDF can then be searched and edited.
    "pdf.fonttype": 42,
}

# One hue per lineage, because a map should show the lineages first. Any two colours differ by ΔE (CIELAB) ≥ 12 for red- and
# green-blind readers too, which a test checks.
COLORS: dict[str, str] = {
    "Acinar": "#fdcb0d",
    "B_Cell": "#1dc0ff",
    "Cardiomyocyte": "#606b75",
    "Dendritic_Cell": "#3f1347",
    "Ductal": "#9a8a06",
    "Endocrine": "#90590d",
    "Endothelial": "#eb7583",
    "Endothelial_TumorAssociated": "#b10558",
    "Epithelial_Airway": "#ffb04f",
    "Epithelial_Alveolar": "#dfd39a",
    "Epithelial_Malignant": "#9b2c2d",
    "Fibroblast": "#429b45",
    "Macrophage": "#8a389e",
    "Mast_Cell": "#e0b6e3",
    "Monocyte": "#ef76e1",
    "NK_Cell": "#bafcf5",
    "Neutrophil": "#5861ff",
    "Pericyte": "#a0fb80",
    "Plasma_Cell": "#0f207a",
    "Smooth_Muscle": "#1098a8",
    "T_Cell": "#3075e2",
    "Tumor_Associated_Fibroblast": "#2a3d06",
    UNRESOLVED: "#b5b5b5",
}
MODEL_COLORS = {"local": "#e08214", "global": "#2166ac", "gate": "#1a1a1a"}
OUTCOME_COLORS = {"both": "#b3b8bf", "local_only": MODEL_COLORS["local"], "global_only": MODEL_COLORS["global"], "neither": "#5b3a5e"}
OUTCOME_NAMES = {"both": "both right", "local_only": "local only", "global_only": "global only", "neither": "neither"}

_SHORT = {
    "Endothelial_TumorAssociated": "Endothelial, TA",
    "Epithelial_Airway": "Airway",
    "Epithelial_Alveolar": "Alveolar",
    "Epithelial_Malignant": "Malignant",
    "Tumor_Associated_Fibroblast": "Fibroblast, TA",
}


def short_name(label: str) -> str:
    """Return a class as it is printed: `B_Cell` is "B cell", and TA is tumour-associated."""
    first, *rest = label.split("_")
    return _SHORT.get(label) or " ".join([first, *(word.lower() for word in rest)])


def explain_names(labels: Iterable[str]) -> str:
    """Return what the abbreviation in the printed names of these classes means; nothing if none has one."""
    return "TA: tumour-associated" if any(short_name(label).endswith(", TA") for label in set(labels)) else ""


def fit_name(name: str, letters: int) -> str:
    """Return a name of at most `letters`; of a longer one the middle is left out, because slides often differ at the end."""
    half = (letters - 1) // 2
    return name if len(name) <= letters else f"{name[: letters - 1 - half]}…{name[-half:]}"


def in_order(labels: Iterable[str]) -> list[str]:
    """Sort class names in the order of the vocabulary, then the classes of the run's own, then Unresolved."""
    found = set(labels)
    own = [name for name in COLORS if name not in CLASSES]
    return [name for name in (*CLASSES, *sorted(own, key=UNRESOLVED.__eq__)) if name in found]


def percent(part: float, whole: float) -> str:
    """Return a share as it is printed: `12.3 %`; a share that would be rounded to nothing is `<0.1 %`."""
    share = 100 * part / whole
    return "<0.1 %" if 0 < share < 0.05 else f"{share:.1f} %"


PredictionFiles = Path | Sequence[Path]
"""The predictions of one slide, or of several."""


def as_paths(value: Path | str | Sequence[Path | str]) -> list[Path]:
    """Return one path or several as a list."""
    return [Path(value)] if isinstance(value, str | Path) else [Path(path) for path in value]


def new_figure(height_in: float) -> Figure:
    """Return an empty figure over two columns of a page."""
    # Not from pyplot, because its figures stay in memory until they are closed.
    return Figure(figsize=(WIDTH_IN, height_in), layout="constrained")


def hide_frame(axes: Axes) -> None:
    """Remove ticks and frame, and leave what is drawn inside `axes`."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def is_dark(color: Sequence[float] | Floats) -> bool:
    """Return whether white text is easier to read than black on this RGB colour (0 to 1), by ITU-R BT.601 luma."""
    return bool(np.dot(color[:3], [0.299, 0.587, 0.114]) < 0.55)


def save_figure(figure: Figure, outputs: Sequence[Path | str]) -> None:
    """Save `figure` under every name.

    Parameters
    ----------
    figure
        The figure.
    outputs
        Files to write; the suffix sets the format. If one fails, none is written.
    """
    # Without dates and versions, because equal figures must give equal files.
    undated = {".pdf": {"CreationDate": None}, ".png": {"Software": None}}
    with whole_files(*outputs) as partials:
        for partial in partials:
            figure.savefig(partial, metadata=undated.get(partial.suffix))
