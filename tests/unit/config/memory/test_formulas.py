"""Predicted beside measured peaks: `tests/expected/peaks.tsv` holds the peaks, and the command that measured each."""

import csv

import pytest

from nuclass_pipeline.config.memory.formulas import PEAKS, request_mb
from nuclass_pipeline.config.memory.jobs import WITH_ENCODERS
from nuclass_pipeline.config.memory.sizes import SlideSize
from nuclass_pipeline.config.run import load_run
from tests import ROOT
from tests.unit.config.memory.test_jobs import JOB

TOLERANCE, SMALL_MB, SMALL_TOLERANCE_MB = 0.3, 1000, 100


def measured():
    with (ROOT / "tests/expected/peaks.tsv").open() as stream:
        return list(csv.DictReader((line for line in stream if not line.startswith("#")), delimiter="\t"))


def predicted(row, demo):
    if row["rule"] in WITH_ENCODERS:
        return load_run(demo, root=ROOT).peak_mb(row["rule"], JOB)
    return PEAKS[row["rule"]].mb([SlideSize(int(row["cells"]), int(row["counts"]), float(row["area_mm2"]), "sheet")])


@pytest.mark.parametrize("row", measured(), ids=lambda row: f"{row['rule']}-{row['cells']}")
def test_a_peak_is_predicted_within_30_percent_and_its_request_covers_it(row, demo):
    found, peak_mb = predicted(row, demo), float(row["peak_mb"])
    allowed = TOLERANCE * peak_mb + (SMALL_TOLERANCE_MB if peak_mb < SMALL_MB else 0)
    assert abs(found - peak_mb) <= allowed, f"{found:.0f} MB predicted, {peak_mb:.0f} MB by {row['measured_by']}"
    assert request_mb(found, 1) >= peak_mb


def test_the_rules_that_grow_most_were_measured_on_a_large_slide():
    large = {row["rule"] for row in measured() if int(row["cells"]) >= 200_000}
    assert large >= {"read_cells", "cluster_cells", "rank_markers", "find_domains", "extract_patches", "split_cells", "train_gate"}
