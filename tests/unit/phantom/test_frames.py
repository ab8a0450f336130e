import numpy as np
import pytest

from tests.unit.phantom.slides import CONFIG, redness


def test_alignment_leads_from_nuclei_to_dark_pixels(slide):
    points = slide.table("nucleus_boundaries")[["vertex_x", "vertex_y"]].to_numpy(dtype=float).reshape(-1, 25, 2)[:, :-1]
    center = points.mean(1)
    inside = redness(slide, center).mean()
    shifted = np.mean([redness(slide, center + np.array([dx, dy])).mean() for dx, dy in ((8, 0), (-8, 0), (0, 8), (0, -8))])
    assert inside > shifted + 0.2
    scale = np.sqrt(np.linalg.det(slide.alignment[:2, :2]))
    assert 0.2125 * scale == pytest.approx(CONFIG.he_mpp, rel=1e-6)
    assert scale > 1.2
    assert np.rad2deg(np.arctan2(slide.alignment[1, 0], slide.alignment[0, 0])) == pytest.approx(CONFIG.rotation_deg)
    assert slide.alignment[2].tolist() == [0, 0, 1]
