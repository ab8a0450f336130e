"""Encoders that read tiles: on which slides they can, and what a tile shows beside the window of a cell."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nuclass_pipeline.config.loading.run_files import source_of

if TYPE_CHECKING:
    from nuclass_pipeline.config.run import Run


def check_tiles(run: "Run") -> None:
    """Check that tiles can be cut for each encoder that reads them."""
    for field, (encoder, _) in run.window_encoders.items():
        if encoder.tile_um is None:
            continue
        if run.config.image.materialize:
            problem = "tiles are cut from the image, and image.materialize writes windows as pixels"
            raise run.error(f"{field}.tile_um", problem, "Set image.materialize to false, or remove tile_um.")
        if slides := [slide for slide in run.slides_of("trio") if slide in run.cohort_slides]:
            problem = f"the windows of {slides[0]} are pixels, and tiles are cut from an image"
            raise run.error(f"{field}.tile_um", problem, "Remove it, or use slides with an image.")


def note_tiles(run: "Run") -> Iterator[str]:
    """Yield a note for each encoder whose tiles reach over the buffer between subsets."""
    for field, (encoder, side_px) in run.window_encoders.items():
        if encoder.tile_um is None or not run.slides_in_strips:
            continue
        # A tile reaches half a window and its core beyond a cell, and so does that of the other cell.
        reach_um = side_px * run.config.image.mpp + 2 * encoder.tile_um
        if run.config.buffer_um < reach_um:
            problem = f"a tile shows up to {reach_um:g} µm of tissue around its cells, and the buffer is {run.config.buffer_um:g} µm"
            why = "so features of different subsets may depend on the same pixels; scores on `val` may be too high"
            file = source_of(f"{field}.tile_um", run.sources) or "run file"
            yield f"{file}: {run.within}{field}.tile_um: {problem}, {why}. Set split.buffer_um to {reach_um:g} to rule it out."
