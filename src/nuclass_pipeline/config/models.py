"""The three models, whose defaults are the paper's values, and the registry of image encoders."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from nuclass_pipeline.config.base import OptionalPath, Section
from nuclass_pipeline.errors import similar

WEIGHTS = Path("resources/weights")
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of a file of weights, the safer first."""


@dataclass(frozen=True)
class BackboneSpec:
    """An image encoder of the registry.

    Attributes
    ----------
    dim
        Size of the feature vector.
    field_px
        Side of the window that the encoder was trained on, px at 0.25 µm/px.
    licence
        Terms of the weights.
    source
        Web page of the weights.
    factory
        What builds it from a `BackboneConfig`, with its weights loaded, as `module:function` in the package.
    repository
        Hugging Face repository of the weights; empty for networks that start from random weights.
    """

    dim: int
    field_px: int
    licence: str
    source: str
    factory: str
    repository: str = ""


BACKBONES = {
    "uni2-h": BackboneSpec(
        dim=1536,
        field_px=224,
        licence="CC-BY-NC-ND 4.0, access on request",
        source="https://huggingface.co/MahmoodLab/UNI2-h",
        factory="models.backbones:load_uni2_h",
        repository="MahmoodLab/UNI2-h",
    ),
    "dinov3-vitl16": BackboneSpec(
        dim=1024,
        field_px=1024,
        licence="DINOv3 License, access on request",
        source="https://huggingface.co/facebook/dinov3-vitl16-pretrain-lvd1689m",
        factory="models.backbones:load_dinov3",
        repository="facebook/dinov3-vitl16-pretrain-lvd1689m",
    ),
    "tiny-resnet": BackboneSpec(192, 224, "none needed", "random weights, trained from the start", "models.backbones:make_tiny_resnet"),
    "tiny-vit": BackboneSpec(64, 224, "none needed", "random weights, trained from the start", "models.backbones:make_tiny_vit"),
}
"""The registry: name in `backbone.name` → encoder."""


class BackboneConfig(Section):
    """An image encoder from the registry of backbones."""

    name: str = Field(description="name in the registry: see `nuclass backbones`")
    weights: OptionalPath = Field(None, description="folder with the weights; empty for networks trained from the start")
    image_px: int = Field(224, ge=32, description="side to which the window is resized before the encoder, px")
    freeze: bool = Field(False, description="do not train it; its features are computed once per slide")
    gradient_checkpointing: bool = Field(False, description="less memory, more time")

    @field_validator("name")
    @classmethod
    def _name_is_registered(cls, name: str) -> str:
        if name not in BACKBONES:
            raise ValueError(f"unknown encoder{similar(name, BACKBONES) or '.'} Use one of {', '.join(BACKBONES)}")
        return name

    @property
    def entry(self) -> BackboneSpec:
        """The encoder in the registry."""
        return BACKBONES[self.name]

    @property
    def download(self) -> str:
        """Command that downloads the weights; empty where there are none."""
        return f"hf download {self.entry.repository} --local-dir {WEIGHTS / self.name}" if self.entry.repository else ""

    @property
    def remedy(self) -> str:
        """What to do about weights that are missing or do not fit."""
        if not self.entry.repository:
            return "Remove `weights`, or use an encoder with weights; `nuclass backbones` lists all."
        terms = f"Accept the licence ({self.entry.licence}) at {self.entry.source}"
        return f"{terms}, run `{self.download}`, and set `weights` to that folder."

    @property
    def weights_problem(self) -> str:
        """Why the weights cannot be loaded, as far as the names of files show it; empty where they can."""
        if not self.entry.repository:
            return f"{self.name} starts from random weights, and reads none" if self.weights else ""
        if not self.weights:
            return f"the folder is missing, and {self.name} needs trained weights"
        if not any(Path(self.weights, name).is_file() for name in WEIGHT_FILES):
            return f"the folder holds neither {' nor '.join(WEIGHT_FILES)}"
        return ""


def describe_backbones() -> list[dict[str, Any]]:
    """Return one row per encoder: name, dim, field_px, licence, source and download command."""
    return [
        {
            "name": name,
            "dim": entry.dim,
            "field_px": entry.field_px,
            "licence": entry.licence,
            "source": entry.source,
            "download": BackboneConfig(name=name).download,
        }
        for name, entry in BACKBONES.items()
    ]


class OptimConfig(Section):
    """AdamW with a linear warm-up."""

    lr_head: float = Field(3e-4, gt=0, description="learning rate of all that is not backbone")
    weight_decay: float = Field(2e-5, ge=0, description="none on biases, norms and embeddings")
    warmup_steps: int = Field(1500, ge=0, description="optimizer steps")
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="the rate after the warm-up: constant, or a cosine that ends at 0"
    )
    clip_norm: float = Field(1.0, ge=0, description="gradient norm; 0 is off")
    batch_size: int = Field(256, ge=1, description="cells per step on the device")
    accumulate: int = Field(2, ge=1, description="batches per optimizer step")
    max_epochs: int = Field(50, ge=1, description="epochs")
    checks_per_epoch: int = Field(4, ge=1, description="validations per epoch")
    patience: int = Field(4, ge=1, description="validations without progress before the end")


class LocalOptimConfig(OptimConfig):
    """AdamW with layer-wise decay of the backbone's rate."""

    lr_backbone: float = Field(3e-6, gt=0, description="learning rate of the last block")
    layer_decay: float = Field(0.85, gt=0, le=1, description="factor per block towards the input")


class GlobalOptimConfig(LocalOptimConfig):
    """The same for the global path."""

    lr_backbone: float = Field(2e-6, gt=0, description="learning rate of the last block of the local encoder")
    warmup_steps: int = Field(2000, ge=0, description="optimizer steps")
    clip_norm: float = Field(0.0, ge=0, description="gradient norm; 0 is off")
    batch_size: int = Field(128, ge=1, description="cells per step on the device")
    max_epochs: int = Field(40, ge=1, description="epochs")


class GateOptimConfig(OptimConfig):
    """AdamW for the gate, which has no backbone."""

    lr_head: float = Field(8e-4, gt=0, description="learning rate")
    weight_decay: float = Field(1e-5, ge=0, description="none on biases and norms")
    warmup_steps: int = Field(1000, ge=0, description="optimizer steps")
    clip_norm: float = Field(0.0, ge=0, description="gradient norm; 0 is off")
    batch_size: int = Field(384, ge=1, description="cells per step")
    accumulate: int = Field(1, ge=1, description="batches per optimizer step")
    max_epochs: int = Field(4, ge=1, description="epochs")
    checks_per_epoch: int = Field(1, ge=1, description="validations per epoch")
    patience: int = Field(3, ge=1, description="validations without progress before the end")


class LocalConfig(Section):
    """The local path: a crop around the cell, with the organ by FiLM."""

    backbone: BackboneConfig = BackboneConfig(name="uni2-h", gradient_checkpointing=True)
    optim: LocalOptimConfig = LocalOptimConfig()
    organ_dim: int = Field(64, ge=1, description="size of the organ embedding")
    dropout: float = Field(0.2, ge=0, lt=1, description="in the head")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="in the cross-entropy")
    class_balance: float = Field(0.9999, ge=0, lt=1, description="β of the effective number of samples")
    freeze_backbone_epochs: int = Field(1, ge=0, description="epochs before the backbone is trained")
    augment: bool = Field(True, description="flips, small rotations, shifts and scales, colour jitter")
    stain_jitter: float = Field(0.0, ge=0, lt=1, description="augmentation of stain strength, as a fraction; 0 in the paper")


class GlobalConfig(Section):
    """The global path: the context window with the local vector."""

    context: BackboneConfig = BackboneConfig(name="dinov3-vitl16", image_px=512, freeze=True)
    optim: GlobalOptimConfig = GlobalOptimConfig()
    lr_context: float = Field(1e-6, gt=0, description="learning rate of the context encoder when it is trained")
    projection: int = Field(512, ge=1, description="size of each projected vector")
    dropout: float = Field(0.2, ge=0, lt=1, description="in the head")
    label_smoothing: float = Field(0.05, ge=0, lt=1, description="in both terms of the objective")
    class_balance: float = Field(0.9999, ge=0, lt=1, description="β of the effective number of samples")
    focus_gamma: float = Field(2.0, ge=0, description="γ of the weight (1 − p_local(y))^γ")
    detach_focus: bool = Field(False, description="stop the gradient through that weight")
    global_weight: float = Field(0.3, ge=0, description="weight of the global path's own term")
    context_dropout: float = Field(0.1, ge=0, lt=1, description="chance of a batch without context")
    alpha_initial: float = Field(0.25, ge=0, description="scale of the context in the first epoch")
    alpha_final: float = Field(1.0, ge=0, description="scale of the context after the warm-up")
    alpha_epochs: int = Field(2, ge=0, description="epochs of that warm-up")
    freeze_backbone_epochs: int = Field(0, ge=0, description="epochs before the local backbone is trained on")
    augment: bool = Field(False, description="the paper trains this path without augmentation")
    stain_jitter: float = Field(0.0, ge=0, lt=1, description="augmentation of stain strength, as a fraction, when `augment` is on")


class GateConfig(Section):
    """The gate; g is the weight of the global path."""

    projection: int = Field(128, ge=1, description="size of each branch's projected feature")
    hidden: tuple[int, int] = Field((256, 64), description="layers of the gate")
    dropout: float = Field(0.1, ge=0, lt=1, description="in projections and gate")
    optim: GateOptimConfig = GateOptimConfig()
    soft_k: float = Field(10.0, gt=0, description="sharpness of the soft target when both paths are right or wrong")
    conflict_boost: float = Field(2.0, ge=0, description="extra weight where exactly one path is right")
    delta_scale: float = Field(1.0, ge=0, description="extra weight per |p_global(y) − p_local(y)|^delta_gamma")
    delta_gamma: float = Field(1.0, ge=0, description="see delta_scale")
    weight_mix: float = Field(1.0, ge=0, description="weight of the mixture term")
    weight_target: float = Field(1.0, ge=0, description="weight of the gate's binary cross-entropy")
    weight_align: float = Field(0.1, ge=0, description="weight of the alignment with the better path")
    weight_entropy: float = Field(0.05, ge=0, description="weight of the gate's entropy where the paths differ")


ModelName = Literal["local", "global", "gate"]
MODELS: tuple[ModelName, ...] = ("local", "global", "gate")
SCORED_MODELS: tuple[str, ...] = MODELS
"""Models that are calibrated and scored; a baseline is added here."""
