"""Checks of a Xenium bundle and its H&E before anything is run: what is in them, and whether they fit each other."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from nuclass_pipeline.config.image import RegistrationConfig, SegmentationConfig
from nuclass_pipeline.data.alignment import Alignment, read_alignment
from nuclass_pipeline.data.image.slide import HeImage
from nuclass_pipeline.data.registration.geometry import MIN_INSIDE, fraction_inside, likely_mistake, refuse_impossible, square_pixels
from nuclass_pipeline.data.registration.overlay import write_overlay
from nuclass_pipeline.data.registration.verdict import FEW_CELLS, Examination, examine
from nuclass_pipeline.data.xenium.matrix import GENE
from nuclass_pipeline.data.xenium.read import CONTROLS, BundleTables, read_bundle
from nuclass_pipeline.data.xenium.transcripts import TranscriptCounts
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.units import Micron
from nuclass_pipeline.vocabulary import MIN_SEEN_SHARE

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
"""Share of controls among all counts, above which there is a note."""
# 5 %, because the headers of 20 of 42 public H&E of Xenium are wrong by more than that, while rounding stays far below it.
MAX_SCALE_DIFFERENCE = 0.05
"""Share by which two pixel sizes, or the scales of two axes, may differ without a note."""

FindingVerdict = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the screen.

    Attributes
    ----------
    what
        What was checked.
    found
        What was found.
    verdict
        `ok`, `note` (unusual, look at it) or `problem` (do not run the slide).
    """

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
    min_transcripts: int = 10,
    config: RegistrationConfig,
) -> list[Finding]:
    """Check a bundle, and its H&E and the markers on its panel if they are given.

    Parameters
    ----------
    bundle
        Folder of the Xenium output.
    image, alignment
        The H&E and its alignment; without alignment, the H&E is in Xenium pixels.
    markers
        Cell type → its marker genes.
    overlay
        PNG to write: the cells on the whole H&E, and cells and nuclei on the 250 µm that hold most cells.
    min_transcripts
        Transcripts that a cell needs for clustering (`clustering.min_transcripts`).
    config
        Limits of the registration check.

    Returns
    -------
    list of Finding
        In the order of the screen.

    Raises
    ------
    UserError
        If a file is missing or broken, or if an alignment or overlay is given without an image. Also if the cell table, the matrix and
        the transcripts are not of one run.
    """
    if image is None and (extra := alignment or overlay):
        raise UserError(extra, "image", "no H&E is given", "Add --image with the path of the H&E.")
    if bundle.is_file():
        raise UserError(bundle, "bundle", "is a file, not a folder", "Unpack it, and use the folder that holds experiment.xenium.")
    tables = read_bundle(bundle / "experiment.xenium")
    manifest, cells, features = tables.manifest, tables.table.frame, tables.matrix.features
    genes = features.loc[features["kind"] == GENE, "name"].tolist()
    findings = [*_files(bundle), *_cells(tables, len(genes), min_transcripts)]
    if tables.transcripts:
        findings += _transcripts(tables.transcripts, cells["transcript_counts"])
    if markers is not None:
        findings += _panel(markers, set(genes))
    if image is not None:
        mapping = read_alignment(alignment, float(manifest["pixel_size"]))
        centroids = Micron(cells[["x_centroid", "y_centroid"]].to_numpy(dtype=np.float64))
        with HeImage(image) as opened:
            he, stored = square_pixels(opened, mapping)
            findings += [*_scale(he, stored), *_position(he, stored.squared, centroids, config)]
            if overlay is not None:
                write_overlay(he, stored.squared, centroids, bundle, overlay)
    return findings


def _files(bundle: Path) -> Iterator[Finding]:
    present = [path.name for pattern in (*READ, *OPTIONAL) for path in sorted(bundle.glob(pattern))]
    missing = [pattern for pattern in OPTIONAL if not any(bundle.glob(pattern))]
    yield Finding("files", ", ".join(present))
    yield Finding("optional files missing", ", ".join(missing) or "none", "note" if missing else "ok")


def _cells(tables: BundleTables, genes: int, min_transcripts: int) -> Iterator[Finding]:
    manifest, cells = tables.manifest, tables.table.frame
    release = manifest.get("analysis_sw_version")
    yield Finding("release", str(release or "unknown"), "ok" if release else "note")
    stated = manifest.get("num_cells", len(cells))
    differs = f", {stated} by the manifest" if stated != len(cells) else ""
    yield Finding("cells", f"{len(cells):,}{differs}", _note(stated != len(cells)))
    yield Finding("cells only in the matrix", f"{tables.left_out:,}", _note(tables.left_out > 0))
    if tables.warnings:
        yield Finding("warnings", "; ".join(tables.warnings), "note")
    yield Finding("genes", f"{genes:,}")
    median = float(cells["transcript_counts"].median())
    yield Finding("median transcripts per cell", f"{median:g}", _note(median < min_transcripts))
    yield _controls(cells)
    yield _without_nucleus(cells)


def _controls(cells: pd.DataFrame) -> Finding:
    controls = int(cells[list(CONTROLS)].to_numpy().sum())
    total = controls + int(cells["transcript_counts"].sum())
    share = controls / max(total, 1)
    return Finding("controls", f"{controls:,}, {100 * share:.2f} % of all counts", _note(share > MAX_CONTROL_SHARE))


def _without_nucleus(cells: pd.DataFrame) -> Finding:
    if "nucleus_area" not in cells:
        return Finding("cells without nucleus", "unknown: the cell table has no nucleus_area", "note")
    absent = cells["nucleus_area"].isna()
    return Finding("cells without nucleus", f"{int(absent.sum()):,}, {100 * absent.mean():.1f} %")


def _transcripts(found: TranscriptCounts, stated: "pd.Series[int]") -> Iterator[Finding]:
    yield Finding("transcripts", f"{found.rows:,} in {found.path.name}")
    yield Finding("transcripts in cells", f"{100 * found.in_cells / found.rows:.1f} %")
    yield Finding("transcripts with qv ≥ 20", f"{100 * found.good / found.rows:.1f} %")
    counted, over = int(found.counted.sum()), found.over_nucleus
    share = "unknown: no overlaps_nucleus" if over is None else f"{100 * int(over.sum()) / max(counted, 1):.1f} % of {counted:,} counted"
    yield Finding("transcripts over the nucleus", share, _note(over is None))
    differing = int((found.counted != stated.to_numpy()).sum())
    yield Finding("cells with other transcripts", f"{differing:,} of {len(stated):,} differ from transcript_counts", _note(differing > 0))


def _panel(markers: Mapping[str, Collection[str]], genes: set[str]) -> Iterator[Finding]:
    on_panel = {name: len(genes.intersection(listed)) for name, listed in sorted(markers.items())}
    unseen = [name for name, n in on_panel.items() if not n]
    seen = ", ".join(f"{name} {n}" for name, n in on_panel.items() if n)
    yield Finding("markers on the panel", seen or "none")
    verdict: FindingVerdict = "problem" if len(markers) - len(unseen) < MIN_SEEN_SHARE * len(markers) else _note(bool(unseen))
    yield Finding("types without marker", ", ".join(unseen) or "none", verdict)


def _scale(he: HeImage, mapping: Alignment) -> Iterator[Finding]:
    embedded = he.embedded_mpp
    differs = embedded is not None and abs(embedded / mapping.mpp_he - 1) > MAX_SCALE_DIFFERENCE
    claim = "no size" if embedded is None else f"{embedded:.4f}"
    size = " × ".join(f"{side:.4f}" for side in dict.fromkeys(mapping.sides_um))
    yield Finding("pixel size", f"{size} µm by the alignment, which is used; the file claims {claim}", _note(differs))
    yield Finding("rotation", f"{mapping.rotation_deg:.1f}°")
    yield Finding("reflected", "yes" if mapping.reflected else "no", _note(mapping.reflected))
    excess = mapping.squared.stretch - 1
    yield Finding("axes", f"differ in scale by {100 * excess:.1f} %", _note(excess > MAX_SCALE_DIFFERENCE))


def _position(he: HeImage, mapping: Alignment, centroids: Micron, config: RegistrationConfig) -> Iterator[Finding]:
    inside = fraction_inside(mapping.to_he(centroids), he.shape)
    verdict: FindingVerdict = "problem" if inside < MIN_INSIDE else _note(inside < FEW_CELLS)
    yield Finding("cells inside the image", f"{100 * inside:.1f} %, image {he.size(0)[1]} × {he.size(0)[0]} px", verdict)
    try:
        refuse_impossible(he, mapping, centroids, config.max_shift_um, he.path)
    except UserError as error:
        yield Finding("registration", f"refused: {error.field}: {error.problem}. {error.remedy}", "problem")
        return
    found = examine(he, mapping, centroids, config, SegmentationConfig(), gpu=False)
    mistake = "" if found.verdict == "good" else likely_mistake(he, mapping, centroids, config.search_um)
    yield from _registration(found, mistake, config.max_shift_um)


def _registration(found: Examination, mistake: str, max_shift_um: float) -> Iterator[Finding]:
    """Yield what the workflow would find; the verdict is its own."""
    fit, nuclei, sound = found.fit.whole, found.nuclei, found.verdict == "good"
    reason = "" if sound else f"; {found.reason}{mistake}"
    shift = f"best shift {fit.distance_um:.1f} µm, at most {max_shift_um:g} allowed"
    correlation = f"correlation {fit.correlation:.2f}, {fit.correlation_best:.2f} shifted"
    shifted = sum(region.fit.distance_um > max_shift_um for region in found.fit.clear)
    regions = f"{shifted} of {len(found.fit.clear)} clear regions beyond it"
    yield Finding("registration", f"{found.verdict}: {shift}; {correlation}; {regions}{reason}", "ok" if sound else "problem")
    by_chance = f"{fit.correlation_chance:.2f} with the cells turned by 180°"
    yield Finding("correlation by chance", by_chance, "problem" if fit.is_chance else "ok")
    yield Finding("cells that match nuclei", f"{100 * found.fit.matched:.1f} %", _note(found.fit.matched < FEW_CELLS))
    if warnings := [warning for warning in found.warnings if warning != found.reason]:
        yield Finding("registration warnings", "; ".join(warnings), "note")
    if nuclei:
        best = f"best shift {nuclei.fit.distance_um:.1f} µm, correlation {nuclei.fit.correlation_best:.2f}"
        contradicts = nuclei.contradicts(fit, max_shift_um)
        verdict: FindingVerdict = "problem" if contradicts else _note(not nuclei.fit.is_clear)
        yield Finding("nuclei of the H&E", f"{nuclei.nuclei:,} in {nuclei.windows} squares, {best}", verdict)


def _note(is_odd: bool) -> FindingVerdict:
    return "note" if is_odd else "ok"
