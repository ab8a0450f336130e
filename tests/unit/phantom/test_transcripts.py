import numpy as np
import pytest

from tests.unit.phantom.slides import CONFIG


def test_quality_matches_the_configuration(slide):
    drawn, cells, truth = slide.table("transcripts"), slide.table("cells"), slide.truth
    assert (drawn["qv"] < 20).mean() == pytest.approx(CONFIG.low_quality_fraction, abs=0.01)
    assert 0.001 < (~drawn["is_gene"]).mean() < 0.003
    assert 0.85 < (drawn["cell_id"] != "UNASSIGNED").mean() < 0.99
    assert cells["transcript_counts"][~truth["poor"]].median() == pytest.approx(CONFIG.transcripts_per_cell, rel=0.2)
    assert truth["poor"].mean() == pytest.approx(CONFIG.poor_fraction, abs=0.01)
    assert (truth["poor"] == (cells["transcript_counts"] < 10)).all()


def test_assigned_transcripts_lie_near_their_cell(slide):
    drawn = slide.table("transcripts")
    drawn = drawn[drawn["cell_id"] != "UNASSIGNED"]
    center = slide.table("cells").set_index("cell_id").loc[drawn["cell_id"], ["x_centroid", "y_centroid"]].to_numpy()
    distance = np.hypot(*(drawn[["x_location", "y_location"]].to_numpy() - center).T)
    assert np.median(distance) < 6
    assert (distance < 20).all()
    assert (drawn.loc[drawn["overlaps_nucleus"] == 1, "nucleus_distance"] == 0).all()
    assert 0.3 < drawn["overlaps_nucleus"].mean() < 0.6
