"""The H&E: how it is resampled, how its registration is checked, how its nuclei are found."""

from dataclasses import dataclass

from pydantic import Field, ValidationInfo, field_validator

from nuclass_pipeline.config.base import InputPath, Section
from nuclass_pipeline.errors import similar

MIN_SIDE_PX = 32
"""Smallest side of a window, px."""


class ImageConfig(Section):
    """The resampled H&E and the windows cut from it."""

    mpp: float = Field(0.25, gt=0, description="pixel size of image.h5, µm")
    local_um: float = Field(56.0, gt=0, validate_default=True, description="side of the local crop, µm: an even number of px of image.h5")
    context_um: float = Field(256.0, gt=0, validate_default=True, description="side of the context window, µm: likewise, and larger")
    fill: int = Field(255, ge=0, le=255, description="value outside the slide; 255 is white, as empty glass")
    materialize: bool = Field(False, description="write real copies of the patches instead of virtual windows")

    @field_validator("local_um", "context_um")
    @classmethod
    def _windows_are_whole(cls, side_um: float, info: ValidationInfo) -> float:
        mpp = info.data.get("mpp")
        if mpp is None:  # Reported already.
            return side_um
        nearest_um = max(MIN_SIDE_PX, 2 * round(side_um / mpp / 2)) * mpp
        if abs(nearest_um - side_um) > 1e-6 * side_um:
            problem = f"{side_um:g} µm is {side_um / mpp:.10g} px of {mpp:g} µm, not an even number of at least {MIN_SIDE_PX}"
            raise ValueError(f"{problem}. Set it to {nearest_um:.10g}")
        local_um = info.data.get("local_um")
        if info.field_name == "context_um" and local_um is not None and side_um <= local_um:
            problem = f"{side_um:g} µm is not larger than local_um ({local_um:g} µm)"
            raise ValueError(f"{problem}. Set it to {4 * local_um:.10g}, or lower local_um")
        return side_um

    @property
    def local_px(self) -> int:
        """Side of the local crop, px of `image.h5`."""
        return round(self.local_um / self.mpp)

    @property
    def context_px(self) -> int:
        """Side of the context window, px of `image.h5`."""
        return round(self.context_um / self.mpp)


class RegistrationConfig(Section):
    """Checks that the H&E is aligned with the cells."""

    max_shift_um: float = Field(5.0, gt=0, description="largest residual shift between haematoxylin and nuclei, µm")
    search_um: float = Field(30.0, gt=0, description="largest shift searched, µm")
    windows: int = Field(12, ge=0, description="number of 256 µm squares for the nuclei check; 0 turns it off")
    accept_unclear: tuple[str, ...] = Field((), description="slides that go on although it is unclear whether their H&E fits; look first")


@dataclass(frozen=True)
class SegmenterSpec:
    """A segmentation method: what makes it, as `module:function` in the package, and whether it runs on the GPU where there is one."""

    factory: str
    uses_gpu: bool = False


CELLPOSE_REMEDY = (
    "hf download mouseland/cellpose-sam cpsam_v2 --local-dir resources/weights/cellpose "
    "(BSD-3-Clause; trained on data under CC-BY-NC), then set segmentation.weights to the file."
)

CELLPOSE_PACKAGE_REMEDY = "pip install -e '.[cellpose]' in the folder of the project, or set segmentation.method to watershed."

SEGMENTERS = {
    "watershed": SegmenterSpec("data.segmentation.watershed:watershed_segmenter"),
    "cellpose": SegmenterSpec("data.segmentation.cellpose:cellpose_segmenter", uses_gpu=True),
}
"""The registry: name in `segmentation.method` → where the method is."""


class SegmentationConfig(Section):
    """How nuclei are segmented: all of a slide of kind image, and a sample of a Xenium slide to check its registration."""

    method: str = Field("watershed", description="watershed needs no weights; cellpose is slow without a GPU")
    weights: InputPath = Field("resources/weights/cellpose/cpsam_v2", description="weights of Cellpose 4")
    threshold_od: float = Field(0.16, gt=0, description="watershed: lowest optical density of haematoxylin in a nucleus")
    tile_px: int = Field(2048, ge=512, description="side of the tiles that are segmented one by one, px of image.h5")

    @field_validator("method")
    @classmethod
    def _method_is_registered(cls, method: str) -> str:
        if method not in SEGMENTERS:
            raise ValueError(f"unknown method{similar(method, SEGMENTERS)}. Use one of {', '.join(SEGMENTERS)}")
        return method
