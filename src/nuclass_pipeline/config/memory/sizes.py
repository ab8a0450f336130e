"""Sizes of the slides, from the first file that holds them; nothing is read whole."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nuclass_pipeline.config.loading.points import POINTS
from nuclass_pipeline.config.run_file import Config
from nuclass_pipeline.config.slides import Slide
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import READ_ERRORS, open_h5, read_json
from nuclass_pipeline.layout import RESULTS

ASSUMED_CELLS = 200_000
"""Cells of a slide about which no file and no column says how many it has."""
GENES_IN_CELL = 70
"""Genes found in a cell where no counts are at hand: those of a panel of some 400 genes."""
CELLS_PER_MM2 = 3000
"""Cells on a mm² of H&E where no registration is at hand; a denser slide has a smaller image."""
SYNTHETIC_MARGIN = 1.5
"""Area of a synthetic H&E, in areas of its tissue."""


@dataclass(frozen=True)
class SlideSize:
    """What the memory and the files of a slide grow with.

    Attributes
    ----------
    cells
        Cells, or nuclei of an H&E alone.
    counts
        Pairs of a cell and a gene found in it; 0 where there are no transcripts.
    area_mm2
        Area of the H&E, mm².
    source
        What says how many cells there are: `bundle`, `results`, `sheet`, `run file`, or `assumed`.
    """

    cells: int
    counts: int
    area_mm2: float
    source: str


def read_size(slide: Slide, config: Config, folder: Path) -> SlideSize:
    """Return the size of a slide.

    Parameters
    ----------
    slide
        Row of the slide sheet.
    config
        The run file, for slides that are synthetic.
    folder
        Results of the slide, which need not exist.
    """
    cells, source = _cells(slide, config, folder)
    with_counts = slide.kind in ("xenium", "synthetic")
    stored = None if source == "run file" else _counts(slide, folder)
    counts = (cells * GENES_IN_CELL if stored is None else stored) if with_counts else 0
    density = config.synthetic.cells_per_mm2 / SYNTHETIC_MARGIN if slide.kind == "synthetic" else CELLS_PER_MM2
    registered = None if source == "run file" else _known(folder / _name("registration"), _area)
    return SlideSize(cells, counts, cells / density if registered is None else registered, source)


def _cells(slide: Slide, config: Config, folder: Path) -> tuple[int, str]:
    if slide.kind == "synthetic":
        # Before the files, because other numbers of cells in the run file make them again.
        return config.synthetic.cells, "run file"
    if rows := _known(folder / _name("cells"), _rows):
        return rows, "results"
    bundle = Path(slide.bundle)
    found = {
        "xenium": lambda: _known(Path(slide.manifest), _stated),
        "images": lambda: _known(bundle / POINTS, _lines),
        "trio": lambda: _known(Path(slide.trio_files(config.image)["local"]), _keys),
    }
    if slide.kind in found and (cells := found[slide.kind]()):
        return cells, "bundle"
    return (slide.cells, "sheet") if slide.cells else (ASSUMED_CELLS, "assumed")


def _counts(slide: Slide, folder: Path) -> int | None:
    made: int | None = _known(folder / _name("counts"), _made_counts)
    return made or _known(Path(slide.bundle) / "cell_feature_matrix.h5", _bundle_counts)


def _name(result: str) -> str:
    return Path(RESULTS[result].path).name


def _known(path: Path, read: Callable[[Path], float]) -> Any:
    """Return what a file says; nothing where it is missing or broken, because the rule that reads it reports that."""
    with suppress(*READ_ERRORS, UserError, pa.ArrowException, TypeError):
        state = path.stat()
        return _read_once(path, state.st_mtime_ns, state.st_size, read)
    return None


@lru_cache(maxsize=4096)
def _read_once(path: Path, changed: int, size: int, read: Callable[[Path], float]) -> float:
    return read(path)


def _rows(path: Path) -> int:
    return int(pq.read_metadata(path).num_rows)


def _stated(path: Path) -> int:
    return int(read_json(path)["num_cells"])


def _lines(path: Path) -> int:
    with path.open("rb") as stream:
        return sum(1 for _ in stream) - 1


def _keys(path: Path) -> int:
    with open_h5(path) as file:
        return int(file["keys"].shape[0])


def _made_counts(path: Path) -> int:
    with open_h5(path) as file:
        return int(file["X/data"].shape[0])


def _bundle_counts(path: Path) -> int:
    with open_h5(path) as file:
        return int(file["matrix/data"].shape[0])


def _area(path: Path) -> float:
    found = read_json(path)
    return float(found["height_px"] * found["width_px"] * found["mpp_he"] ** 2 / 1e6)
