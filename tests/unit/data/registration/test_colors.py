"""Red and blue exchanged are seen in the nuclei of public H&E, and of no sound one."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from nuclass_pipeline.data.alignment import Alignment
from nuclass_pipeline.data.image.slide import HeImage
from nuclass_pipeline.data.registration.colors import NuclearContrast, nuclear_contrast
from nuclass_pipeline.units import Micron


@pytest.mark.parametrize(
    ("contrast", "exchanged"),
    [
        ((0.3, 0.35, 0.15), False),
        ((0.15, 0.35, 0.3), True),
        ((0.19, 0.35, 0.2), False),
        ((0.01, 0.02, 0.04), False),
        ((0.0, 0.0, 0.0), False),
    ],
)
def test_blue_must_clearly_exceed_red(contrast, exchanged):
    assert NuclearContrast(*contrast).looks_exchanged == exchanged


def test_real_nuclei_absorb_red_more_than_blue(real_data, tmp_path):
    found = []
    for path in sorted((real_data / "he_m2c/images").glob("*.png"))[:12]:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        row, column = np.loadtxt(real_data / f"he_m2c/labels/{path.stem}.txt", ndmin=2)[:, :2].T
        for order in (1, -1):
            tifffile.imwrite(tmp_path / "he.tif", pixels[..., ::order].copy(), photometric="rgb", tile=(256, 256))
            with HeImage(tmp_path / "he.tif") as he:
                contrast = nuclear_contrast(he, Alignment(np.eye(3), 0.5), Micron(0.5 * np.column_stack([column, row])), (0.0, 0.0))
            found.append((order, contrast.looks_exchanged))
    assert found == [(order, order == -1) for _ in range(12) for order in (1, -1)]
