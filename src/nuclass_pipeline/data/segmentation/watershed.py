"""Nuclei by a watershed on haematoxylin; needs no trained weights.

Lengths are in µm, so that they hold at any pixel size. `benchmarks/nuclei.py` tuned the values on half of ten real crops, and scores them
on the other half too.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_opening, distance_transform_edt, gaussian_filter
from skimage.feature import peak_local_max
from skimage.morphology import disk, remove_small_holes
from skimage.segmentation import watershed

from nuclass_pipeline.arrays import Booleans
from nuclass_pipeline.config.image import SegmentationConfig
from nuclass_pipeline.data.image.slide import RGB
from nuclass_pipeline.data.image.stain import haematoxylin_od
from nuclass_pipeline.data.segmentation.tiles import Segmenter

# Low, because a nucleus is found by its contrast, and the threshold only keeps out glass. With 0.32, F1 fell from 0.83 to 0.71 where the
# stain had 0.7 of its strength; with 0.16 it is 0.85 (docs/development.md).
THRESHOLD_OD = SegmentationConfig().threshold_od
AREA_UM2 = (5.0, 100.0)
"""Smallest and largest nucleus."""
SMOOTH_UM = 0.3
AROUND_UM = 8.0
CONTRAST_OD = 0.06
"""How much more haematoxylin a nucleus holds than the tissue around it, smoothed by `AROUND_UM`."""
# Trimmed, because a low threshold reaches beyond the edge of a strongly stained nucleus (docs/development.md).
EDGE_SHARE = 0.35
"""Pixels with a smaller share of their nucleus' mean contrast are its blurred edge."""
NECK_UM = 0.4
"""Bridges narrower than twice this are cut."""
SEED_SMOOTH_UM = 0.4
SEED_DISTANCE_UM = 1.2
"""Smallest distance between the seeds of two nuclei."""


def watershed_segmenter(config: SegmentationConfig, mpp: float, *, gpu: bool) -> Segmenter:
    """Build the segmenter `watershed` for tiles of `mpp`, µm; it runs on the CPU."""
    return watershed_nuclei(mpp, config.threshold_od)


def watershed_nuclei(mpp: float, threshold_od: float = THRESHOLD_OD, area_um2: tuple[float, float] = AREA_UM2) -> Segmenter:
    """Build a segmenter that needs no trained weights: threshold on haematoxylin, then a watershed from the middles of the nuclei.

    Parameters
    ----------
    mpp
        Pixel size of the tiles, µm.
    threshold_od
        Lowest optical density of haematoxylin in a nucleus; one value for a whole slide, so that tiles agree.
    area_um2
        Areas of the smallest and of the largest nucleus.
    """

    def segment(tile: RGB) -> NDArray[np.int32]:
        density = gaussian_filter(haematoxylin_od(tile), SMOOTH_UM / mpp, truncate=3)
        # Truncated at two sigma instead of four, because what lies beyond half the overlap of tiles must not change a nucleus.
        around = gaussian_filter(density, AROUND_UM / mpp, truncate=2)
        nuclei = (density > threshold_od) & (density > around + CONTRAST_OD)
        mask = binary_opening(nuclei, disk(round(NECK_UM / mpp)))  # type: ignore[no-untyped-call]
        labels = _trim(_split(remove_small_holes(mask, max_size=int(area_um2[1] / mpp**2)), mpp), density - around)
        area = np.bincount(labels.ravel()) * mpp**2
        kept = (area >= area_um2[0]) & (area <= area_um2[1])
        return np.where(kept[labels], labels, 0).astype(np.int32)

    return segment


def _split(mask: Booleans, mpp: float) -> NDArray[np.int32]:
    depth = gaussian_filter(distance_transform_edt(mask), SEED_SMOOTH_UM / mpp, truncate=3) * mask
    seeds = np.zeros(mask.shape, dtype=np.int32)
    distance_px = max(1, round(SEED_DISTANCE_UM / mpp))
    peaks = peak_local_max(depth, min_distance=distance_px, exclude_border=False)  # type: ignore[no-untyped-call]
    # Row-major, because labels must not depend on the order of equally high peaks.
    peaks = peaks[np.lexsort(peaks.T[::-1])]
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return np.asarray(watershed(-depth, seeds, mask=mask), dtype=np.int32)  # type: ignore[no-untyped-call]


def _trim(labels: NDArray[np.int32], contrast: NDArray[np.float32]) -> NDArray[np.int32]:
    """Remove the blurred edge of every nucleus."""
    pixels = np.maximum(np.bincount(labels.ravel()), 1)
    mean = np.bincount(labels.ravel(), contrast.ravel()) / pixels
    return np.where(contrast > EDGE_SHARE * mean[labels], labels, 0)
