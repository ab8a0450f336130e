"""Check that the H&E lies on the nuclei before anything is cut from it."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, rfft2
from scipy.ndimage import gaussian_filter

from nuclass_pipeline.config.study import RegistrationConfig
from nuclass_pipeline.data.he import HeImage
from nuclass_pipeline.data.registration import Alignment, read_alignment
from nuclass_pipeline.data.xenium import read_manifest
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import read_table, write_json
from nuclass_pipeline.schemas import CELLS
from nuclass_pipeline.units import HePixel, Micron

logger = logging.getLogger(__name__)

QC_MPP = 1.0
NUCLEUS_SIGMA_UM = 2.5
HAEMATOXYLIN = np.array([0.65, 0.70, 0.29])
"""Optical density of haematoxylin in red, green and blue (Ruifrok and Johnston 2001)."""
LEAST_AGREEMENT = 0.1
MOST_CHANCE = 0.5
"""Share of the agreement that misplaced cells may reach: tissue lies on tissue even where an alignment is mirrored."""
STRIP_ROWS = 1024


@dataclass(frozen=True)
class Fit:
    """Agreement of haematoxylin with nuclei: where it is best, and how good, there and unshifted."""

    shift_um: tuple[float, float]
    agreement: float
    agreement_best: float


def register_image(
    *, manifest: Path, cells: Path, image: Path, alignment: Path | None = None, config: RegistrationConfig, registration: Path
) -> None:
    """Read the alignment, compare haematoxylin with the cells, and write `registration.json`.

    Raises
    ------
    UserError
        If the best shift is larger than `config.max_shift_um`, or no cell lies on the image.
    """
    mapping = read_alignment(alignment, float(read_manifest(manifest)["pixel_size"]))
    centroids = Micron(read_table(cells, CELLS)[["x_um", "y_um"]].to_numpy())
    with HeImage(image) as he:
        inside = fraction_inside(mapping.to_he(centroids), he.shape)
        if inside == 0:
            raise UserError(alignment or image, "matrix", "places every cell outside the H&E", "Is it the alignment of this slide?")
        density = haematoxylin(he, mapping)
        embedded = he.embedded_mpp
        shape = he.shape
    if embedded and abs(embedded / mapping.mpp_he - 1) > 0.02:
        logger.warning("%s claims %.4f µm/px, the alignment says %.4f; the alignment holds", image, embedded, mapping.mpp_he)
    fit = compare(density, mapping, centroids, config.search_um)
    chance = chance_agreement(density, mapping, centroids, config.search_um)
    verdict = judge(fit, chance, config.max_shift_um)
    if verdict == "unclear":
        logger.warning("%s: agreement %.2f with the cells, %.2f by chance: look at it (nuclass check)", image, fit.agreement_best, chance)
    if verdict == "shifted":
        distance = float(np.hypot(*fit.shift_um))
        raise UserError(
            alignment or image,
            "matrix",
            f"the H&E lies {distance:.1f} µm off the nuclei",
            "Align it again, or raise registration.max_shift_um.",
        )
    write_json(
        {
            "matrix": mapping.matrix.tolist(),
            "xenium_mpp": mapping.xenium_mpp,
            "mpp_he": mapping.mpp_he,
            "embedded_mpp": embedded,
            "rotation_deg": mapping.rotation_deg,
            "reflected": mapping.reflected,
            "residual_um": mapping.residual_um,
            "height_px": shape[0],
            "width_px": shape[1],
            "cells_inside": inside,
            "shift_um": list(fit.shift_um),
            "agreement": fit.agreement,
            "agreement_best": fit.agreement_best,
            "agreement_chance": chance,
            "verdict": verdict,
        },
        registration,
    )


def fraction_inside(xy_px: HePixel, shape: tuple[int, int]) -> float:
    """Return the share of points, (N, 2), that lie within an image of `shape` (height, width)."""
    return float(((xy_px >= 0) & (xy_px < (shape[1], shape[0]))).all(axis=1).mean())


def judge(fit: Fit, chance: float, max_shift_um: float) -> str:
    """Call a fit `good`, `shifted` by more than `max_shift_um`, or `unclear` where no shift agrees, or chance agrees half as well."""
    if fit.agreement_best < LEAST_AGREEMENT or is_chance(fit, chance):
        return "unclear"
    return "shifted" if np.hypot(*fit.shift_um) > max_shift_um else "good"


def is_chance(fit: Fit, chance: float) -> bool:
    """Say whether cells that are surely misplaced agree nearly as well."""
    return chance >= MOST_CHANCE * fit.agreement_best


def chance_agreement(density: NDArray[np.float32], mapping: Alignment, centroids: Micron, search_um: float) -> float:
    """Give the best agreement of the cells turned by 180° about their middle; arguments as for `compare`."""
    turned = Micron(centroids.min(axis=0) + centroids.max(axis=0) - centroids)
    return compare(density, mapping, turned, search_um).agreement_best


def haematoxylin(he: HeImage, mapping: Alignment) -> NDArray[np.float32]:
    """Return the haematoxylin optical density of the slide at `QC_MPP`, (height, width)."""
    scale = mapping.mpp_he / QC_MPP
    height, width = (max(1, round(side * scale)) for side in he.shape)
    strips = []
    for top in range(0, height, STRIP_ROWS):
        pixels = he.resample(scale, slice(top, min(top + STRIP_ROWS, height)), width)
        density = -np.log10((pixels.astype(np.float32) + 1) / 256)
        strips.append(density @ HAEMATOXYLIN.astype(np.float32))
    return np.concatenate(strips)


def compare(density: NDArray[np.float32], mapping: Alignment, centroids: Micron, search_um: float) -> Fit:
    """Correlate haematoxylin with blurred nuclei over all shifts up to `search_um`.

    Parameters
    ----------
    density
        (height, width) at `QC_MPP`.
    centroids
        (N, 2), µm.

    Returns
    -------
    Fit
        The shift is the one to add to the cells, in µm of the H&E frame; resolution is `QC_MPP`, refined by a parabola.
    """
    xy = mapping.to_image(centroids, QC_MPP)
    height, width = density.shape
    nuclei, *_ = np.histogram2d(xy[:, 1], xy[:, 0], bins=(height, width), range=((0, height), (0, width)))
    nuclei = gaussian_filter(nuclei.astype(np.float32), NUCLEUS_SIGMA_UM / QC_MPP)
    smooth = gaussian_filter(density, NUCLEUS_SIGMA_UM / QC_MPP) - gaussian_filter(density, 8 * NUCLEUS_SIGMA_UM / QC_MPP)
    reach = int(search_um / QC_MPP)
    surface = _correlate(smooth, nuclei)[np.ix_(np.arange(-reach, reach + 1), np.arange(-reach, reach + 1))]
    row, column = np.unravel_index(int(np.argmax(surface)), surface.shape)
    shift = (_refine(surface[row], int(column)) - reach, _refine(surface[:, column], int(row)) - reach)
    return Fit((shift[0] * QC_MPP, shift[1] * QC_MPP), float(surface[reach, reach]), float(surface[row, column]))


def _correlate(image: NDArray[np.floating], template: NDArray[np.floating]) -> NDArray[np.float64]:
    image, template = image - image.mean(), template - template.mean()
    spectrum = rfft2(image) * np.conj(rfft2(template))
    norm = float(np.linalg.norm(image) * np.linalg.norm(template)) or 1.0
    return np.asarray(irfft2(spectrum, image.shape) / norm)


def _refine(values: NDArray[np.float64], peak: int) -> float:
    if not 0 < peak < len(values) - 1:
        return float(peak)
    left, middle, right = values[peak - 1 : peak + 2]
    curvature = left - 2 * middle + right
    return float(peak + (0.5 * (left - right) / curvature if curvature < 0 else 0.0))
