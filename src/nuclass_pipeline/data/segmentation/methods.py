"""The segmentation method that the run file selects."""

from nuclass_pipeline.config.image import SEGMENTERS, SegmentationConfig
from nuclass_pipeline.data.segmentation.tiles import Segmenter
from nuclass_pipeline.runtime import load_entry


def make_segmenter(config: SegmentationConfig, mpp: float, *, gpu: bool) -> Segmenter:
    """Build the segmenter `config.method` of the registry `SEGMENTERS`, for tiles of `mpp`, µm.

    Raises
    ------
    UserError
        If the method needs weights or a package that is missing.
    """
    # By name, because the module of one method must not need the packages of another.
    segmenter: Segmenter = load_entry(SEGMENTERS[config.method].factory)(config, mpp, gpu=gpu)
    return segmenter
