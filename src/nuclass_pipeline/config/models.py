"""The three models, whose defaults are the paper's values."""

from typing import Literal, TypeVar

from pydantic import Field, model_validator

from nuclass_pipeline.config.backbones.section import BackboneConfig
from nuclass_pipeline.config.base import Section


class OptimConfig(Section):
    """AdamW with a linear warm-up."""

    lr_head: float = Field(3e-4, gt=0, description="learning rate of all that is not backbone")
    weight_decay: float = Field(2e-5, ge=0, description="none on biases, norms and embeddings")
    warmup_steps: int = Field(1500, ge=0, description="optimizer steps")
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="the rate after the warm-up: constant, or a cosine that ends at 0"
    )
    clip_norm: float = Field(1.0, ge=0, description="gradient norm; 0 is off")
    batch_size: int = Field(256, ge=1, description="cells per batch, shared equally by `compute.devices`")
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
    batch_size: int = Field(128, ge=1, description="cells per batch, shared equally by `compute.devices`")
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
    """The local path: a crop around the cell, with the organ."""

    backbone: BackboneConfig = BackboneConfig(name="uni2-h", gradient_checkpointing=True)
    optim: LocalOptimConfig = LocalOptimConfig()
    conditioning: Literal["film", "concat", "none"] = Field(
        "film", description="the organ: film scales and shifts the feature by it, concat appends its embedding, none leaves it out"
    )
    organ_dim: int = Field(64, ge=1, description="size of the organ embedding")
    organ_dropout: float = Field(
        0.0, ge=0, lt=1, description="share of training cells whose organ is hidden; above 0 the models learn an unknown organ"
    )
    dropout: float = Field(0.2, ge=0, lt=1, description="in the head")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="in the cross-entropy")
    class_balance: float = Field(0.9999, ge=0, lt=1, description="β of the effective number of samples")
    freeze_backbone_epochs: int = Field(1, ge=0, description="epochs before the backbone is trained")
    standardize: bool = Field(False, description="features of a frozen encoder to mean 0 and standard deviation 1 over the training cells")
    augment: bool = Field(True, description="flips, small rotations, shifts and scales, colour jitter")
    stain_jitter: float = Field(0.0, ge=0, lt=1, description="augmentation of stain strength, as a fraction; 0 in the paper")

    @property
    def learns_unknown_organ(self) -> bool:
        """Whether a model of this section can classify cells of an organ that it was not trained on."""
        return self.conditioning == "none" or self.organ_dropout > 0

    def feature_dim(self, dim: int) -> int:
        """Return the size of the feature with the organ, from that of the encoder's vector."""
        return dim + (self.organ_dim if self.conditioning == "concat" else 0)

    @model_validator(mode="after")
    def _only_a_known_organ_is_hidden(self) -> "LocalConfig":
        if self.conditioning == "none" and self.organ_dropout:
            raise ValueError("organ_dropout hides the organ, which conditioning none leaves out. Set organ_dropout to 0")
        return self

    @model_validator(mode="after")
    def _only_frozen_features_are_standardized(self) -> "LocalConfig":
        return _check_standardize(self, self.backbone, "backbone")


class GlobalConfig(Section):
    """The global path: the context window with the local vector."""

    context: BackboneConfig = BackboneConfig(name="dinov3-vitl16", image_px=512, freeze=True)
    optim: GlobalOptimConfig = GlobalOptimConfig()
    use_context: bool = Field(True, description="off: the window has no influence, and the path sees the local vector alone")
    lr_context: float = Field(1e-6, gt=0, description="learning rate of the context encoder when it is trained")
    projection: int = Field(512, ge=1, description="size of each projected vector")
    dropout: float = Field(0.2, ge=0, lt=1, description="in the head")
    label_smoothing: float = Field(0.05, ge=0, lt=1, description="in both terms of the objective")
    class_balance: float = Field(0.9999, ge=0, lt=1, description="β of the effective number of samples")
    focus_gamma: float = Field(2.0, ge=0, description="γ of the weight (1 − p_local(y))^γ")
    detach_focus: bool = Field(False, description="stop the gradient through that weight")
    fused_weight: float = Field(1.0, ge=0, description="weight of the term of the fused logits")
    global_weight: float = Field(0.3, ge=0, description="weight of the global path's own term")
    context_dropout: float = Field(0.1, ge=0, lt=1, description="chance of a batch without context")
    alpha_initial: float = Field(0.25, ge=0, description="scale of the context in the first epoch")
    alpha_final: float = Field(1.0, ge=0, description="scale of the context after the warm-up")
    alpha_epochs: int = Field(2, ge=0, description="epochs of that warm-up")
    freeze_backbone_epochs: int = Field(0, ge=0, description="epochs before the local backbone is trained on")
    standardize: bool = Field(False, description="context features of a frozen encoder to mean 0 and standard deviation 1")
    augment: bool = Field(False, description="the paper trains this path without augmentation")
    stain_jitter: float = Field(0.0, ge=0, lt=1, description="augmentation of stain strength, as a fraction, when `augment` is on")

    @model_validator(mode="after")
    def _a_term_has_weight(self) -> "GlobalConfig":
        if self.fused_weight == self.global_weight == 0:
            raise ValueError("fused_weight and global_weight are both 0, so nothing is trained. Set one of them above 0")
        return self

    @model_validator(mode="after")
    def _only_frozen_features_are_standardized(self) -> "GlobalConfig":
        return _check_standardize(self, self.context, "context")


P = TypeVar("P", LocalConfig, GlobalConfig)


def _check_standardize(section: P, encoder: BackboneConfig, key: str) -> P:
    if section.standardize and not encoder.freeze:
        raise ValueError(f"standardize is for the features of a frozen encoder. Set {key}.freeze: true, or remove standardize")
    return section


class GateConfig(Section):
    """The gate; g is the weight of the global path."""

    kind: Literal["mlp", "neighbors"] = Field(
        "mlp", description="mlp: the paper's, mixes local and global path; neighbors: global path and its mean over the cells around"
    )
    neighbor_um: float = Field(20.0, gt=0, le=100, description="σ of the weight of a neighbour by its distance, µm; for kind neighbors")
    projection: int = Field(128, ge=1, description="size of each branch's projected feature")
    hidden: tuple[int, int] = Field((256, 64), description="layers of the gate")
    dropout: float = Field(0.1, ge=0, lt=1, description="in projections and gate")
    optim: GateOptimConfig = GateOptimConfig()
    soft_k: float = Field(10.0, gt=0, description="sharpness of the soft target when both paths are right or wrong")
    balance_cells: int = Field(12, ge=2, description="cells over whose mean target t̄ the weight (1 − t̄)/t̄ of positive targets is taken")
    conflict_boost: float = Field(2.0, ge=0, description="extra weight where exactly one path is right")
    delta_scale: float = Field(1.0, ge=0, description="extra weight per |p_global(y) − p_local(y)|^delta_gamma")
    delta_gamma: float = Field(1.0, ge=0, description="see delta_scale")
    weight_mix: float = Field(1.0, ge=0, description="weight of the mixture term")
    weight_target: float = Field(1.0, ge=0, description="weight of the gate's binary cross-entropy")
    weight_align: float = Field(0.1, ge=0, description="weight of the alignment with the better path")
    weight_entropy: float = Field(0.05, ge=0, description="weight of the gate's entropy where the paths differ")

    @model_validator(mode="after")
    def _keys_belong_to_the_kind(self) -> "GateConfig":
        own = {"mlp": set(GateConfig.model_fields) - {"kind", "neighbor_um"}, "neighbors": {"neighbor_um"}}
        for name, info in GateConfig.model_fields.items():
            if name != "kind" and name not in own[self.kind] and getattr(self, name) != info.default:
                raise ValueError(f"{name} is of another kind than {self.kind}. Remove it, or change kind")
        return self


ModelName = Literal["local", "global", "gate"]
MODELS: tuple[ModelName, ...] = ("local", "global", "gate")
SCORED_MODELS: tuple[str, ...] = MODELS
"""Models that are calibrated and scored; a baseline is added here."""
