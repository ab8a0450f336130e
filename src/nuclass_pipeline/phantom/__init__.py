"""Tissue phantoms: seeded Xenium bundles with H&E whose truth is known.

Three facts are built in, so that tests can check that each path contributes (docs/development.md):

1. Fibroblasts and vessels look the same in tumour stroma and in normal stroma. Their surroundings differ, mostly outside a 56 µm crop.
2. T cells and macrophages share their surroundings, and so do gland cells and granular cells. They differ in the nucleus alone.
3. Glands, granular cells and linings look nearly the same in lung and in pancreas. Only the organ separates them.
"""

import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import whole_file, write_json, write_table
from nuclass_pipeline.phantom.bundle import Bundle, cell_table, draw_ids, read_features, write_matrix, write_tables
from nuclass_pipeline.phantom.documents import experiment, write_panel
from nuclass_pipeline.phantom.frames import he_frame, xenium_frame
from nuclass_pipeline.phantom.images import write_dapi, write_he
from nuclass_pipeline.phantom.layout import draw_layout
from nuclass_pipeline.phantom.nuclei import draw_chromatin
from nuclass_pipeline.phantom.programs import read_phantom_panel
from nuclass_pipeline.phantom.shapes import draw_shapes
from nuclass_pipeline.phantom.stain import render_dapi, render_he
from nuclass_pipeline.phantom.tissue import GLAND_CLASS, populate
from nuclass_pipeline.phantom.transcripts import draw_transcripts, starve
from nuclass_pipeline.schemas import TRUTH

if TYPE_CHECKING:
    from nuclass_pipeline.config.synthetic import SyntheticConfig

# The default of `clustering.min_transcripts`, because `truth.poor` marks the cells that quality control should remove.
_MIN_TRANSCRIPTS = 10
# Above 0, because readers must accept cells without a detected nucleus: real bundles have up to 4 %.
_UNSEEN_NUCLEI = 0.006


def make_slide(*, organ: str, seed: int, config: "SyntheticConfig", manifest: Path, image: Path, alignment: Path, truth: Path) -> None:
    """Write one slide: Xenium bundle, H&E, its alignment, and the true class of every cell.

    Parameters
    ----------
    organ
        `lung` or `pancreas`.
    seed
        Seed of the layout, the stain and the cell mix. The same seed gives the same bytes.
    config
        Size of the slide and quality of the data.
    manifest
        `experiment.xenium`, written last. The other files of the bundle are written to the same folder.
    image
        H&E OME-TIFF.
    alignment
        3 × 3 matrix from H&E pixels to morphology pixels of 0.2125 µm.
    truth
        Parquet table with the columns of `schemas.TRUTH`.

    Raises
    ------
    UserError
        If the organ has no phantom.
    """
    if organ not in GLAND_CLASS:
        raise UserError(manifest, "organ", f"{organ!r} has no phantom", f"Use one of {', '.join(GLAND_CLASS)}.")
    # One stream for each concern, because a longer draw in one must not change the others.
    streams = np.random.default_rng([seed, list(GLAND_CLASS).index(organ)]).spawn(4)
    bundle = _draw_bundle(streams[0], streams[1], organ, config)
    identity = uuid.uuid5(uuid.NAMESPACE_OID, f"{organ} {seed}")
    folder = manifest.parent
    write_tables(bundle, folder)
    write_matrix(bundle, folder / "cell_feature_matrix.h5")
    write_panel(bundle.features, folder / "gene_panel.json")
    _write_pictures(streams[2], streams[3], bundle, config, folder, image, alignment, identity)
    poor = cell_table(bundle)["transcript_counts"].to_numpy() < _MIN_TRANSCRIPTS
    write_table(pd.DataFrame({"cell_id": bundle.ids, "label": bundle.cells.label, "niche": bundle.cells.niche, "poor": poor}), truth, TRUTH)
    write_json(experiment(bundle, organ, identity), manifest)


def _draw_bundle(place: np.random.Generator, count: np.random.Generator, organ: str, config: "SyntheticConfig") -> Bundle:
    layout = draw_layout(place, organ, config.cells, config.cells_per_mm2, config.aspect)
    cells = populate(place, layout, config.cells)
    shapes = draw_shapes(place, cells)
    panel = read_phantom_panel()
    features, genes = read_features(panel), [gene["gene"] for gene in panel]
    nucleated = count.uniform(size=len(cells)) >= _UNSEEN_NUCLEI
    drawn = draw_transcripts(count, cells, shapes, genes, len(features) - len(genes), layout.frame_um, config, nucleated)
    drawn = starve(count, drawn, len(genes), len(cells), config.poor_fraction)
    return Bundle(draw_ids(count, len(cells)), cells, shapes, nucleated, drawn, features, layout)


def _write_pictures(
    look: np.random.Generator,
    camera: np.random.Generator,
    bundle: Bundle,
    config: "SyntheticConfig",
    folder: Path,
    image: Path,
    alignment: Path,
    identity: uuid.UUID,
) -> None:
    tissue = (bundle.layout, bundle.cells, bundle.shapes, draw_chromatin(look, bundle.cells))
    frame = xenium_frame(bundle.layout.frame_um)
    write_dapi(render_dapi(camera, *tissue, frame), folder / "morphology_focus" / "morphology_focus_0000.ome.tif", identity)
    frame, matrix = he_frame(bundle.layout.frame_um, config.he_mpp, config.rotation_deg)
    write_he(render_he(look, *tissue, frame), image)
    with whole_file(alignment) as partial:
        partial.write_text("\n".join(",".join(repr(float(value)) for value in row) for row in matrix) + "\n")
