"""Peak memory of each rule that grows with its slides: docs/sizes.md shows the formulas, `tests/expected/peaks.tsv` what was measured."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from nuclass_pipeline.config.memory.sizes import SlideSize

REQUESTED_SHARE = 1.3
"""What a job requests, in peaks as computed: other data than those measured take up to 30 % more."""
STEP_MB = 100
"""Requests are multiples of it."""
MIN_MB = 1000
"""Least that a job requests."""
Slides = Literal["own", "training", "heldout", "cohort", "all"]


@dataclass(frozen=True)
class Peak:
    """Peak memory of a rule.

    Attributes
    ----------
    base_mb
        Memory with a slide of no cells: mostly libraries.
    cell_bytes, count_bytes
        Bytes for each cell, and for each gene found in a cell.
    side_bytes
        Bytes for each pixel along the side of a square image of the same area, at 0.25 µm/px.
    area_mb
        MB for each mm² of the H&E.
    of
        Slides that a job reads: its own, or those of a role.
    one_by_one
        Whether it reads them one after the other, so that the largest one counts.
    """

    base_mb: float
    cell_bytes: float = 0
    count_bytes: float = 0
    side_bytes: float = 0
    area_mb: float = 0
    of: Slides = "own"
    one_by_one: bool = False

    def mb(self, sizes: Iterable[SlideSize]) -> float:
        """Return the peak of a job that reads slides of these sizes, MB."""
        sizes = list(sizes)
        of_cells = [self.cell_bytes * size.cells + self.count_bytes * size.counts for size in sizes]
        area_mm2 = max((size.area_mm2 for size in sizes), default=0.0)
        of_image = self.side_bytes * math.sqrt(area_mm2) * SIDE_PX + 1e6 * self.area_mb * area_mm2
        return self.base_mb + (max(of_cells, default=0.0) if self.one_by_one else sum(of_cells)) / 1e6 + of_image / 1e6


SIDE_PX = 4000
"""Pixels of 0.25 µm along a mm."""

PEAKS = {
    "make_slide": Peak(80, area_mb=663),
    "read_cells": Peak(300, cell_bytes=900, count_bytes=20),
    "register_image": Peak(400, cell_bytes=300),
    "build_image": Peak(340, side_bytes=11_500),
    "segment_nuclei": Peak(640, cell_bytes=3000),
    "import_points": Peak(400, cell_bytes=1500),
    "import_trio": Peak(400, cell_bytes=3000),
    "summarize_overviews": Peak(400, of="all"),
    "cluster_cells": Peak(500, cell_bytes=6000, count_bytes=45),
    "rank_markers": Peak(400, cell_bytes=1000, count_bytes=60),
    "find_domains": Peak(680, cell_bytes=14_800, count_bytes=60),
    "label_cells": Peak(640, cell_bytes=6500, count_bytes=60),
    "propose_labels": Peak(200, cell_bytes=500, count_bytes=12),
    "compare_annotators": Peak(200, cell_bytes=500, count_bytes=12),
    "export_labels": Peak(200, cell_bytes=1000, count_bytes=20),
    "find_programs": Peak(600),
    "extract_patches": Peak(346, cell_bytes=1560),
    "extract_windows": Peak(346, cell_bytes=1560),
    "split_cells": Peak(202, cell_bytes=850),
    "train_gate": Peak(950, cell_bytes=940, of="training"),
    "fit_temperatures": Peak(840, cell_bytes=2370, of="training", one_by_one=True),
    "predict_slide": Peak(900, cell_bytes=2000),
    "calibrate_models": Peak(260, cell_bytes=330, of="training"),
    "score_predictions": Peak(260, cell_bytes=550, of="heldout"),
    "compare_paths": Peak(260, cell_bytes=800, of="heldout", one_by_one=True),
    "summarize_variants": Peak(260, cell_bytes=800, of="heldout", one_by_one=True),
    "summarize_cohort": Peak(250, cell_bytes=300, of="all"),
    "summarize_quality": Peak(300, cell_bytes=300, count_bytes=10, of="all", one_by_one=True),
    "summarize_registration": Peak(300, cell_bytes=100, of="all", one_by_one=True),
    "score_labels": Peak(260, cell_bytes=300, of="all"),
}
"""Rule → its peak; the rules of encoders and of the two paths are computed in `encoders`."""


def request_mb(peak_mb: float, attempt: int) -> int:
    """Return what a job with this peak requests, MB; `attempt`, from 1, multiplies it."""
    return attempt * max(MIN_MB, STEP_MB * math.ceil(REQUESTED_SHARE * peak_mb / STEP_MB))
