"""How the nuclei and cytoplasm of each class look."""

from dataclasses import dataclass, replace
from typing import Literal

Texture = Literal["clumped", "vesicular", "speckled", "nucleolar", "pleomorphic", "fine"]


@dataclass(frozen=True)
class Look:
    """Typical nucleus and cytoplasm of a class.

    Attributes
    ----------
    major_um, minor_um
        Semi-axes of the nucleus, µm.
    spread
        Standard deviation of the logarithm of the size of nuclei.
    roughness
        Amplitude of the waves of the outline, as a fraction of the radius.
    chromatin
        Optical density of haematoxylin in the nucleus.
    texture
        Grain of the chromatin.
    eosin, basophilia
        Optical density of eosin and of haematoxylin in the cytoplasm; without eosin no cytoplasm is painted.
    cytoplasm_um
        Width of the cytoplasm around the nucleus, µm, within the outline of the cell.
    size
        Factor on both semi-axes. It does not change `keep_out_um`.
    """

    major_um: float
    minor_um: float
    spread: float
    roughness: float
    chromatin: float
    texture: Texture
    eosin: float = 0.0
    basophilia: float = 0.0
    cytoplasm_um: float = 5.0
    size: float = 1.0

    @property
    def keep_out_um(self) -> float:
        """Radius of the disc around the nucleus that no other cell's disc may overlap, µm."""
        # Without `size`, because organs that pack their cells differently would differ in their surroundings too.
        return float(1.03 * (self.major_um * self.minor_um) ** 0.5 + 0.35)


# One look for tumour and normal stroma, because only the surroundings should separate the two.
_FIBROBLAST = Look(6.2, 2.1, 0.12, 0.05, 0.85, "fine")
_ENDOTHELIAL = Look(4.9, 1.7, 0.10, 0.05, 1.1, "fine")

# Nearly one look for lung and pancreas, because only the organ should separate the two.
_GLAND = Look(3.35, 3.1, 0.09, 0.02, 0.80, "nucleolar", 0.08, 0.26)
_GRANULAR = Look(3.4, 3.2, 0.09, 0.02, 0.80, "speckled", 0.08, 0.26)
_LINING = Look(3.6, 2.8, 0.09, 0.03, 0.82, "fine", 0.18, 0.04, 4.0)

# Not equal, because a model without the organ then guessed a whole slide right or wrong by chance, and the gate gained
# nothing on some slides (docs/development.md). With these sizes it is right in about two of three cells in each organ.
_IN_LUNG, _IN_PANCREAS = 1.04, 0.96

# T cells and macrophages, and gland cells and granular cells, have nearly the same area and mass of chromatin, because the context
# at 2 µm/px must not separate them. The shape and grain of the nucleus do.
LOOKS: dict[str, Look] = {
    "Acinar": replace(_GLAND, size=_IN_PANCREAS),
    "B_Cell": Look(3.6, 3.4, 0.08, 0.03, 0.95, "clumped", 0.05, 0.06, 1.0),
    "Ductal": replace(_LINING, size=_IN_PANCREAS),
    "Endocrine": replace(_GRANULAR, size=_IN_PANCREAS),
    "Endothelial": _ENDOTHELIAL,
    "Endothelial_TumorAssociated": _ENDOTHELIAL,
    "Epithelial_Airway": replace(_GLAND, size=_IN_LUNG),
    "Epithelial_Alveolar": replace(_LINING, size=_IN_LUNG),
    "Epithelial_Malignant": Look(5.2, 4.1, 0.18, 0.10, 0.80, "pleomorphic", 0.50, 0.16),
    "Fibroblast": _FIBROBLAST,
    "Macrophage": Look(3.95, 3.35, 0.11, 0.03, 0.92, "vesicular", 0.05, 0.02, 1.5),
    "Mast_Cell": replace(_GRANULAR, size=_IN_LUNG),
    "Smooth_Muscle": Look(6.0, 1.8, 0.10, 0.04, 0.85, "fine", 0.24, 0.0, 2.2),
    "T_Cell": Look(3.45, 3.3, 0.11, 0.02, 0.84, "clumped", 0.05, 0.02, 1.5),
    "Tumor_Associated_Fibroblast": _FIBROBLAST,
}
