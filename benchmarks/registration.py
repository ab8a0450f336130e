"""Are shifts between H&E and cells found, and is none found where there is none: `python benchmarks/registration.py`.

The alignments of the demo's slides are moved by 0 to 20 µm in eight directions; slides and limits are those of `config/demo.yaml`.
The nuclei check, with nuclei found on the H&E, is made in the first direction only.
"""

import tempfile
import time
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from nuclass_pipeline.config.image import RegistrationConfig, SegmentationConfig
from nuclass_pipeline.config.run import load_run
from nuclass_pipeline.data.alignment import Alignment, read_alignment
from nuclass_pipeline.data.image.slide import HeImage
from nuclass_pipeline.data.registration.fit import fit_registration
from nuclass_pipeline.data.registration.nuclei_check import NucleiCheck
from nuclass_pipeline.data.registration.verdict import run_nuclei_check
from nuclass_pipeline.data.xenium.read import read_cell_table, read_manifest
from nuclass_pipeline.phantom import make_slide
from nuclass_pipeline.units import Micron

ROOT = Path(__file__).parents[1]
RUN_FILE = "config/demo.yaml"
SHIFTS_UM = (0, 1, 2, 3, 4, 4.5, 5.5, 6, 8, 12, 16, 20)
DIRECTIONS_DEG = range(0, 360, 45)


@dataclass(frozen=True)
class Trial:
    """One planted shift: errors of what was found on the whole slide, in its clear regions and by the nuclei, and the verdict."""

    slide: str
    shift_um: float
    error_um: float
    region_errors_um: list[float]
    confidence: float
    flagged: bool
    nuclei: NucleiCheck | None
    nuclei_error_um: float


def try_shifts(slide: str, folder: Path, config: RegistrationConfig) -> Iterator[Trial]:
    sound = read_alignment(folder / "alignment.csv", float(read_manifest(folder / "outs/experiment.xenium")["pixel_size"]))
    xy_um = Micron(read_cell_table(folder / "outs")[["x_centroid", "y_centroid"]].to_numpy(dtype=np.float64))
    with HeImage(folder / "he.ome.tif") as he:
        for shift_um in SHIFTS_UM:
            for direction in np.deg2rad(DIRECTIONS_DEG):
                matrix = sound.matrix.copy()
                matrix[:2, 2] += shift_um * np.array([np.cos(direction), np.sin(direction)]) / sound.xenium_mpp
                moved = Alignment(matrix, sound.xenium_mpp)
                needed_um = (sound.to_he(xy_um) - moved.to_he(xy_um))[0] * sound.mpp_he
                found = fit_registration(he, moved, xy_um, config)
                whole, *regions = (float(np.hypot(*(fit.shift_um - needed_um))) for fit in (found.whole, *(r.fit for r in found.clear)))
                nuclei = None if direction else run_nuclei_check(he, moved, xy_um, config, SegmentationConfig(), gpu=False)
                error_um = float(np.hypot(*(nuclei.fit.shift_um - needed_um))) if nuclei else np.nan
                flagged = found.verdict(config.max_shift_um) == "shifted"
                yield Trial(slide, shift_um, whole, regions, found.whole.confidence, flagged, nuclei, error_um)


def show(console: Console, trials: list[Trial], key: str, limit_um: float) -> None:
    columns = ("trials", "slide error, median µm", "largest", "regions", "region error, median µm", "largest")
    table = Table(key, *columns, "least confidence", "flagged", "false alarms")
    groups: dict[Hashable, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(getattr(trial, key), []).append(trial)
    for name, group in {**groups, "all": trials}.items():
        errors = [trial.error_um for trial in group]
        regions = [error for trial in group for error in trial.region_errors_um]
        found = [(len(values), *(f"{of(values):.2f}" for of in (np.median, np.max))) for values in (errors, regions)]
        above = [trial.flagged for trial in group if trial.shift_um > limit_um]
        below = [trial.flagged for trial in group if trial.shift_um <= limit_um]
        flags = [f"{sum(flagged)} of {len(flagged)}" for flagged in (above, below)]
        table.add_row(str(name), *map(str, (*found[0], *found[1])), f"{min(trial.confidence for trial in group):.2f}", *flags)
    console.print(table)


def main() -> None:
    run = load_run(yaml.safe_load((ROOT / RUN_FILE).read_text()), root=ROOT, file=RUN_FILE)
    config, start, trials = run.config, time.perf_counter(), []
    for slide, seed in config.synthetic.seeds.items():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            files = {"manifest": folder / "outs/experiment.xenium", "image": folder / "he.ome.tif", "alignment": folder / "alignment.csv"}
            make_slide(organ=run.slides[slide].organ, seed=seed, config=config.synthetic, truth=folder / "truth.parquet", **files)
            trials += try_shifts(slide, folder, config.registration)
    # Wide enough for the headings, where the output is no terminal too.
    console = Console(width=150)
    for key in ("slide", "shift_um"):
        show(console, trials, key, config.registration.max_shift_um)
    checked = [trial for trial in trials if trial.nuclei]
    errors, clear = [trial.nuclei_error_um for trial in checked], sum(trial.nuclei.fit.is_clear for trial in checked)
    console.print(f"nuclei: {clear} of {len(checked)} checks clear; error, median {np.median(errors):.2f} µm, largest {max(errors):.2f} µm")
    console.print(f"flagged: verdict shifted above {config.registration.max_shift_um:g} µm; false alarms: at and below it")
    console.print(f"{len(trials)} trials in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
