"""Nuclei by a watershed on haematoxylin; needs no trained weights.

Lengths are in µm, so that it holds at any pixel size; the figures come from `benchmarks/nuclei.py`.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_opening, distance_transform_edt, gaussian_filter
from skimage.color import rgb2hed
from skimage.feature import peak_local_max
from skimage.morphology import disk, remove_small_holes
from skimage.segmentation import watershed

from nuclass_pipeline.config.image import SegmentationConfig
from nuclass_pipeline.data.image.slide import RGB
from nuclass_pipeline.data.segmentation.tiles import Segmenter

HED_UNIT_OD = 6.0
"""scikit-image gives stains in units of the optical density of one part in a million."""
THRESHOLD_OD = SegmentationConfig().threshold_od
"""Low, so that a pale stain loses nothing: what tells a nucleus is its contrast with the tissue around it."""
AREA_UM2 = (5.0, 100.0)
SMOOTH_UM = 0.3
AROUND_UM = 8.0
CONTRAST_OD = 0.06
"""How much more haematoxylin a nucleus holds than the `AROUND_UM` about it."""
EDGE_SHARE = 0.35
"""Pixels with less of their nucleus' mean contrast are its blurred edge."""
NECK_UM = 0.4
"""Bridges narrower than twice this are cut."""
SEED_SMOOTH_UM = 0.4
SEED_DISTANCE_UM = 1.2


def watershed_segmenter(config: SegmentationConfig, mpp: float, *, gpu: bool) -> Segmenter:
    """Make the segmenter `watershed` for tiles of `mpp`, µm; it runs on the CPU."""
    return watershed_nuclei(mpp, config.threshold_od)


def haematoxylin_od(tile: RGB) -> NDArray[np.float32]:
    """Return the optical density of haematoxylin, (height, width), of pixels (height, width, 3).

    The stains are unmixed as by Ruifrok and Johnston (2001).
    """
    return np.asarray(rgb2hed(tile)[..., 0] * HED_UNIT_OD, dtype=np.float32)


def watershed_nuclei(mpp: float, threshold_od: float = THRESHOLD_OD, area_um2: tuple[float, float] = AREA_UM2) -> Segmenter:
    """Make a segmenter that needs no trained weights: threshold on haematoxylin, then a watershed from the middles of the nuclei.

    Parameters
    ----------
    mpp
        Pixel size of the tiles, µm.
    threshold_od
        Least optical density of haematoxylin in a nucleus; one value for a whole slide, so that tiles agree.
    area_um2
        Smallest and largest nucleus.
    """

    def segment(tile: RGB) -> NDArray[np.int32]:
        density = gaussian_filter(haematoxylin_od(tile), SMOOTH_UM / mpp, truncate=3)
        # Short of the usual reach of four sigma, so that what lies beyond half the overlap of tiles has no say.
        around = gaussian_filter(density, AROUND_UM / mpp, truncate=2)
        nuclei = (density > threshold_od) & (density > around + CONTRAST_OD)
        mask = binary_opening(nuclei, disk(round(NECK_UM / mpp)))  # type: ignore[no-untyped-call]
        labels = _trim(_split(remove_small_holes(mask, max_size=int(area_um2[1] / mpp**2)), mpp), density - around)
        area = np.bincount(labels.ravel()) * mpp**2
        kept = (area >= area_um2[0]) & (area <= area_um2[1])
        return np.where(kept[labels], labels, 0).astype(np.int32)

    return segment


def _split(mask: NDArray[np.bool_], mpp: float) -> NDArray[np.int32]:
    depth = gaussian_filter(distance_transform_edt(mask), SEED_SMOOTH_UM / mpp, truncate=3) * mask
    seeds = np.zeros(mask.shape, dtype=np.int32)
    distance_px = max(1, round(SEED_DISTANCE_UM / mpp))
    peaks = peak_local_max(depth, min_distance=distance_px, exclude_border=False)  # type: ignore[no-untyped-call]
    # Row-major, so that labels do not hang on the order of equal peaks.
    peaks = peaks[np.lexsort(peaks.T[::-1])]
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return np.asarray(watershed(-depth, seeds, mask=mask), dtype=np.int32)  # type: ignore[no-untyped-call]


def _trim(labels: NDArray[np.int32], contrast: NDArray[np.float32]) -> NDArray[np.int32]:
    """Take the blurred edge off every nucleus: low thresholds reach beyond it where the stain is strong."""
    pixels = np.maximum(np.bincount(labels.ravel()), 1)
    mean = np.bincount(labels.ravel(), contrast.ravel()) / pixels
    return np.where(contrast > EDGE_SHARE * mean[labels], labels, 0)
