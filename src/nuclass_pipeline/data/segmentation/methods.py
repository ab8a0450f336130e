"""The segmentation method that the run file names."""

from nuclass_pipeline.config.image import SEGMENTERS, SegmentationConfig
from nuclass_pipeline.data.segmentation.tiles import Segmenter
from nuclass_pipeline.runtime import load_entry


def make_segmenter(config: SegmentationConfig, mpp: float, *, gpu: bool) -> Segmenter:
    """Make the segmenter that `config.method` names, for tiles of `mpp`, µm."""
    segmenter: Segmenter = load_entry(SEGMENTERS[config.method].factory)(config, mpp, gpu=gpu)
    return segmenter
