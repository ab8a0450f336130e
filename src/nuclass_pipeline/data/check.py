"""Can a Xenium bundle and its H&E be trusted: what is in them, told before anything is run."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from nuclass_pipeline.config.expression import ClusteringConfig
from nuclass_pipeline.config.image import RegistrationConfig, SegmentationConfig
from nuclass_pipeline.data.alignment import Alignment, read_alignment
from nuclass_pipeline.data.image.pictures import DOT_COLOR, PANEL_PX, densest_square, draw_detail, mark, nuclei_of_bundle, write_pair
from nuclass_pipeline.data.image.resample import resample
from nuclass_pipeline.data.image.slide import HeImage
from nuclass_pipeline.data.registration.correlation import fit_registration
from nuclass_pipeline.data.registration.stage import fraction_inside, run_nuclei_check
from nuclass_pipeline.data.xenium.matrix import Matrix, read_matrix
from nuclass_pipeline.data.xenium.read import CONTROLS, add_counts, align, read_cell_table, read_manifest, transcripts_of
from nuclass_pipeline.data.xenium.transcripts import TranscriptCounts
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.units import Micron

READ = ("experiment.xenium", "cells.parquet", "cells.csv*", "cells.zarr.zip", "cell_feature_matrix*")
OPTIONAL = (
    "transcripts.parquet",
    "cell_boundaries.parquet",
    "nucleus_boundaries.parquet",
    "gene_panel.json",
    "metrics_summary.csv",
    "morphology*",
)
MAX_CONTROL_SHARE = 0.05
MAX_TRANSCRIPT_DIFFERENCE = 0.05
"""Share by which two pixel sizes, or the scales of two axes, may differ."""
MAX_UNSEEN_SHARE = 0.5
"""Share of an organ's types that may have no marker on the panel; beyond it the panel is of another species or tissue."""
FEW_INSIDE, MIN_INSIDE = 0.95, 0.5
CHECK_DETAIL_UM = 250.0
MAX_OVERLAY_DOTS = 5000

FindingVerdict = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the screen: what was looked at, what was found, and whether it can be trusted."""

    what: str
    found: str
    verdict: FindingVerdict = "ok"


def check_bundle(
    *,
    bundle: Path,
    image: Path | None = None,
    alignment: Path | None = None,
    markers: Mapping[str, Collection[str]] | None = None,
    overlay: Path | None = None,
    config: RegistrationConfig,
) -> list[Finding]:
    """Look at a bundle, and at its H&E and the markers on its panel if they are given.

    Parameters
    ----------
    bundle
        Folder of the Xenium output.
    image, alignment
        The H&E and its alignment; without alignment the H&E is taken to be in Xenium pixels.
    markers
        Type → genes that speak for it.
    overlay
        PNG to write, 1200 × 600 px: the whole H&E with the cells' centroids, and beside it the 250 µm that hold most cells, with the
        outlines of the bundle's nuclei too.
    config
        Limits of the registration check, µm.

    Returns
    -------
    list of Finding
        In the order of the screen.

    Raises
    ------
    UserError
        If a file is missing or broken, the cell table, the matrix and the transcripts are not of one run, or an alignment or overlay
        comes without an image.
    """
    if image is None and (extra := alignment or overlay):
        raise UserError(extra, "image", "is not given, so the H&E cannot be looked at", "Give --image too.")
    if bundle.is_file():
        raise UserError(bundle, "bundle", "is a file", "Give the folder with experiment.xenium; unpack an archive first.")
    manifest, table, matrix = read_manifest(bundle / "experiment.xenium"), read_cell_table(bundle), read_matrix(bundle)
    cells = add_counts(table, align(matrix, table, bundle), bundle)
    genes = matrix.features.loc[matrix.features["kind"] == "Gene Expression", "name"].tolist()
    findings = [*_files(bundle), *_cells(manifest, cells, matrix, len(genes))]
    if transcripts := transcripts_of(cells, matrix, bundle):
        findings += _transcripts(transcripts, cells["transcript_counts"])
    if markers is not None:
        findings += _panel(markers, set(genes))
    if image is not None:
        mapping = read_alignment(alignment, float(manifest["pixel_size"]))
        centroids = Micron(cells[["x_centroid", "y_centroid"]].to_numpy(dtype=np.float64))
        with HeImage(image) as he:
            findings += [*_scale(he, mapping), *_position(he, mapping, centroids, config)]
            if overlay is not None:
                _write_overlay(he, mapping, centroids, bundle, overlay)
    return findings


def _files(bundle: Path) -> Iterator[Finding]:
    present = [path.name for pattern in (*READ, *OPTIONAL) for path in sorted(bundle.glob(pattern))]
    missing = [pattern for pattern in OPTIONAL if not any(bundle.glob(pattern))]
    yield Finding("files", ", ".join(present))
    yield Finding("optional files missing", ", ".join(missing) or "none", "note" if missing else "ok")


def _cells(manifest: dict[str, Any], cells: pd.DataFrame, matrix: Matrix, genes: int) -> Iterator[Finding]:
    release = manifest.get("analysis_sw_version")
    yield Finding("release", str(release or "not told"), "ok" if release else "note")
    told = manifest.get("num_cells", len(cells))
    yield Finding("cells", f"{len(cells):,}" + (f", the manifest says {told}" if told != len(cells) else ""), _note(told != len(cells)))
    extra = len(matrix.cell_ids) - len(cells)
    yield Finding("cells only in the matrix", f"{extra:,}", _note(extra > 0))
    yield Finding("genes", f"{genes:,}")
    median, least = float(cells["transcript_counts"].median()), ClusteringConfig().min_transcripts
    yield Finding("median transcripts per cell", f"{median:g}", _note(median < least))
    yield _controls(cells)
    yield _without_nucleus(cells)


def _controls(cells: pd.DataFrame) -> Finding:
    controls = int(cells[list(CONTROLS)].to_numpy().sum())
    total = controls + int(cells["transcript_counts"].sum())
    share = controls / max(total, 1)
    return Finding("controls", f"{controls:,}, {100 * share:.2f} % of all counts", _note(share > MAX_CONTROL_SHARE))


def _without_nucleus(cells: pd.DataFrame) -> Finding:
    if "nucleus_area" not in cells:
        return Finding("cells without nucleus", "not told: the cell table has no nucleus_area", "note")
    absent = cells["nucleus_area"].isna()
    return Finding("cells without nucleus", f"{int(absent.sum()):,}, {100 * absent.mean():.1f} %")


def _transcripts(found: TranscriptCounts, told: "pd.Series[int]") -> Iterator[Finding]:
    yield Finding("transcripts", f"{found.rows:,} in {found.path.name}")
    yield Finding("transcripts in cells", f"{100 * found.in_cells / found.rows:.1f} %")
    yield Finding("transcripts with qv ≥ 20", f"{100 * found.good / found.rows:.1f} %")
    counted, over = int(found.counted.sum()), found.over_nucleus
    share = "not told: no overlaps_nucleus" if over is None else f"{100 * int(over.sum()) / max(counted, 1):.1f} % of {counted:,} counted"
    yield Finding("transcripts over the nucleus", share, _note(over is None))
    differing = int((found.counted != told.to_numpy()).sum())
    yield Finding("cells with other transcripts", f"{differing:,} of {len(told):,} differ from transcript_counts", _note(differing > 0))


def _panel(markers: Mapping[str, Collection[str]], genes: set[str]) -> Iterator[Finding]:
    on_panel = {name: len(genes.intersection(listed)) for name, listed in sorted(markers.items())}
    unseen = [name for name, n in on_panel.items() if not n]
    seen = ", ".join(f"{name} {n}" for name, n in on_panel.items() if n)
    yield Finding("markers on the panel", seen or "none")
    verdict: FindingVerdict = "problem" if len(unseen) > MAX_UNSEEN_SHARE * len(markers) else _note(bool(unseen))
    yield Finding("types without marker", ", ".join(unseen) or "none", verdict)


def _scale(he: HeImage, mapping: Alignment) -> Iterator[Finding]:
    embedded = he.embedded_mpp
    differs = embedded is not None and abs(embedded / mapping.mpp_he - 1) > MAX_TRANSCRIPT_DIFFERENCE
    claim = "no size" if embedded is None else f"{embedded:.4f}"
    yield Finding("pixel size", f"{mapping.mpp_he:.4f} µm, by which cells are placed; the file claims {claim}", _note(differs))
    yield Finding("rotation", f"{mapping.rotation_deg:.1f}°")
    yield Finding("reflected", "yes" if mapping.reflected else "no", _note(mapping.reflected))
    excess = float(np.linalg.cond(mapping.matrix[:2, :2])) - 1
    yield Finding("axes", f"differ in scale by {100 * excess:.1f} %", _note(excess > MAX_TRANSCRIPT_DIFFERENCE))


def _position(he: HeImage, mapping: Alignment, centroids: Micron, config: RegistrationConfig) -> Iterator[Finding]:
    inside = fraction_inside(mapping.to_he(centroids), he.shape)
    verdict: FindingVerdict = "problem" if inside < MIN_INSIDE else _note(inside < FEW_INSIDE)
    yield Finding("cells inside the image", f"{100 * inside:.1f} %, image {he.shape[1]} × {he.shape[0]} px", verdict)
    if inside == 0:
        yield Finding("registration", "no cell to compare", "problem")
        return
    agreement = fit_registration(he, mapping, centroids, config)
    fit, verdict_of_fit = agreement.whole, agreement.verdict(config.max_shift_um)
    off = sum(region.fit.distance_um > config.max_shift_um for region in agreement.clear)
    shift = f"best shift {fit.distance_um:.1f} µm, at most {config.max_shift_um:g} allowed"
    found = f"{verdict_of_fit}: {shift}; agreement {fit.agreement:.2f}, {fit.agreement_best:.2f} shifted"
    regions = f"{off} of {len(agreement.clear)} clear regions beyond it"
    yield Finding("registration", f"{found}; {regions}", "ok" if verdict_of_fit == "good" else "problem")
    yield Finding("agreement by chance", f"{fit.chance:.2f} with the cells turned by 180°", "problem" if fit.is_chance else "ok")
    if opinion := run_nuclei_check(he, mapping, centroids, config, SegmentationConfig(), gpu=False):
        told = f"{opinion.nuclei:,} in {opinion.windows} squares, best shift {opinion.fit.distance_um:.1f} µm"
        verdict = "problem" if opinion.contradicts(fit, config.max_shift_um) else _note(not opinion.fit.is_clear)
        yield Finding("nuclei of the H&E", f"{told}, agreement {opinion.fit.agreement_best:.2f}", verdict)


def _note(is_odd: bool) -> FindingVerdict:
    return "note" if is_odd else "ok"


def _write_overlay(he: HeImage, mapping: Alignment, centroids: Micron, bundle: Path, path: Path) -> None:
    xy_px = mapping.to_he(centroids)
    corner, side_px = densest_square(xy_px, CHECK_DETAIL_UM, mapping.mpp_he, he.shape)
    scale = PANEL_PX / max(he.shape)
    whole = Image.fromarray(np.concatenate(list(resample(he, scale, PANEL_PX))))
    mark(whole, xy_px[:: -(-len(xy_px) // MAX_OVERLAY_DOTS)] * scale, 1, fill=DOT_COLOR)
    box = np.concatenate([corner, corner + side_px]) * scale
    ImageDraw.Draw(whole).rectangle(tuple(box.tolist()), outline="black", width=2)
    write_pair(whole, draw_detail(he, xy_px, nuclei_of_bundle(bundle, mapping, corner, side_px), corner, side_px), path)
