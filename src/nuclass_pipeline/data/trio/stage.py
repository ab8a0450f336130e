"""Patch datasets: a folder with `annotations.json` and two patch files, imported as if the pipeline had written it.

Two encodings of patch files are read: merged (`images`, `keys`), and one dataset per cell. Nothing is copied: the new files name the old
ones and the places in them, so the folder has to stay where it is.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nuclass_pipeline.config.image import ImageConfig
from nuclass_pipeline.data.trio.annotations import MPP_FIELD, Annotations, agree_mpp, read_annotations, read_mpp
from nuclass_pipeline.data.trio.patches import link_patches
from nuclass_pipeline.io import stated_mpp, whole_files, write_table
from nuclass_pipeline.schemas import CELLS, LABELS, provided_labels
from nuclass_pipeline.vocabulary import read_label_map


def import_trio(
    *,
    organ: str,
    annotations: Path,
    local_source: Path,
    context_source: Path,
    label_map: Path,
    own: Sequence[str] = (),
    config: ImageConfig,
    cells: Path,
    labels: Path,
    local: Path,
    context: Path,
) -> None:
    """Write `cells.parquet`, `labels.parquet` and two patch files of a patch dataset.

    Parameters
    ----------
    organ
        Organ of the slide, with which the tissues of the cells are compared.
    annotations
        JSON: cell id → class, `centroid_x` and `centroid_y` in px, and optionally `micron_per_pixel` and `tissue_type`.
    local_source, context_source
        Patch files of crops and context windows, at least as wide as those of the run.
    label_map
        Raw labels → classes. The cells of a label without a class are Unresolved, and a warning counts them.
    own
        The study's own names of classes.
    config
        Sides of the windows, fill value, and the pixel size of a dataset that states none.
    cells, labels, local, context
        Files to write, rows in the order of `annotations`.

    Raises
    ------
    UserError
        If a field, a patch or a file is missing, a patch has the wrong shape, or the files contradict each other or the slide sheet.
    """
    found = read_annotations(annotations, organ)
    aligned = read_label_map(label_map, own).align(found.raw)
    sources = {"local_um": (local_source, local), "context_um": (context_source, context)}
    stated = [(path, "mpp", read_mpp(path, "mpp", mpp)) for path, _ in sources.values() if (mpp := stated_mpp(path)) is not None]
    mpp, warnings = agree_mpp([(annotations, MPP_FIELD, found.mpp), *stated], config.mpp)
    dropped = [f"{count} cells of {raw!r} are Unresolved: {reason}" for (raw, reason), count in aligned.dropped.most_common()]
    with whole_files(cells, labels, local, context) as (cells_partial, labels_partial, *partials):
        unused = [
            warning
            for partial, (key, (path, _)) in zip(partials, sources.items(), strict=True)
            for warning in link_patches(path, partial, found.ids, key, config, mpp)
        ]
        write_table(_cell_table(found, mpp), cells_partial, CELLS, [*found.warnings, *warnings, *unused])
        write_table(provided_labels(found.ids, aligned.labels), labels_partial, LABELS, dropped)


def _cell_table(found: Annotations, mpp: float) -> pd.DataFrame:
    x_um, y_um = (found.xy_px * mpp).T
    frame = pd.DataFrame({"cell_id": found.ids, "x_um": x_um, "y_um": y_um})
    return frame.assign(cell_area_um2=np.nan, nucleus_area_um2=np.nan, transcripts=0, nucleus_transcripts=np.nan, controls=0)
