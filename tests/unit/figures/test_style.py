import numpy as np
import pytest
from matplotlib.colors import to_rgb

from nuclass_pipeline.figures.style import COLORS, is_dark, short_name
from nuclass_pipeline.vocabulary import CLASSES, UNRESOLVED


def _lab(colors: list[str], vision: np.ndarray) -> np.ndarray:
    """Return the CIELAB values of colours as a dichromat sees them; `vision` is from Machado et al. 2009."""
    rgb = np.array([to_rgb(color) for color in colors])
    linear = np.clip(np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ vision.T, 0, 1)
    to_xyz = np.array([[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]])
    xyz = np.cbrt(linear @ to_xyz.T / [0.9505, 1, 1.0888])
    return np.stack([116 * xyz[:, 1] - 16, 500 * (xyz[:, 0] - xyz[:, 1]), 200 * (xyz[:, 1] - xyz[:, 2])], axis=1)


@pytest.mark.parametrize(
    ("vision", "least"),
    [
        (np.eye(3), 20),
        (np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]), 12),
        (np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]), 12),
    ],
    ids=["normal", "deuteranope", "protanope"],
)
def test_every_class_has_a_color_of_its_own(vision: np.ndarray, least: float) -> None:
    assert set(COLORS) == {*CLASSES, UNRESOLVED}
    lab = _lab(list(COLORS.values()), vision)
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1)[np.triu_indices(len(lab), 1)]
    assert distance.min() >= least


def test_names_are_short_and_distinct() -> None:
    assert [short_name(name) for name in ("B_Cell", "Smooth_Muscle", "Epithelial_Malignant")] == ["B cell", "Smooth muscle", "Malignant"]
    assert len({short_name(name) for name in CLASSES}) == len(CLASSES)
    assert is_dark(to_rgb("black"))
    assert not is_dark(to_rgb("white"))
