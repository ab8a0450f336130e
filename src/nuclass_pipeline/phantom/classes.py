"""How the nuclei and cytoplasm of each class look."""

from dataclasses import dataclass, replace
from typing import Literal

Texture = Literal["clumped", "vesicular", "speckled", "nucleolar", "pleomorphic", "fine"]


@dataclass(frozen=True)
class Look:
    """Semi-axes of the nucleus (µm), their spread, its outline and chromatin, and the cytoplasm: optical densities and width.

    `size` multiplies both axes and leaves the room that a cell takes.
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
        """Radius that no neighbour's reaches into, µm."""
        return float(1.03 * (self.major_um * self.minor_um) ** 0.5 + 0.35)


# A tumour's fibroblasts and vessels share their look with normal ones: only the place tells them apart.
_FIBROBLAST = Look(6.2, 2.1, 0.12, 0.05, 0.85, "fine")
_ENDOTHELIAL = Look(4.9, 1.7, 0.10, 0.05, 1.1, "fine")

# Glands, the granular cells in them and the lining of lumens look nearly alike in lung and pancreas. Their nuclei differ a little in
# size, so that who is not told the organ is right in about two of three cells on either side, and not in all or none as luck has it.
_GLAND = Look(3.35, 3.1, 0.09, 0.02, 0.80, "nucleolar", 0.08, 0.26)
_GRANULAR = Look(3.4, 3.2, 0.09, 0.02, 0.80, "speckled", 0.08, 0.26)
_LINING = Look(3.6, 2.8, 0.09, 0.03, 0.82, "fine", 0.18, 0.04, 4.0)

_IN_LUNG, _IN_PANCREAS = 1.04, 0.96

# T cells and macrophages, and acinar and endocrine cells, differ in the shape and grain of the nucleus, not in
# its mass of chromatin nor much in its area: at 2 µm/px they look alike.
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
