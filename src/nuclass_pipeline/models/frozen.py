"""Frozen encoders: what their features depend on, and the encoder itself where features are not enough."""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field, ValidationError

from nuclass_pipeline.config.backbones.files import weights_sha256
from nuclass_pipeline.config.backbones.section import BackboneConfig
from nuclass_pipeline.config.base import Section
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import open_h5
from nuclass_pipeline.models.backbones import build_backbone
from nuclass_pipeline.models.encoders import Encoder

if TYPE_CHECKING:
    from nuclass_pipeline.models.checkpoint import CheckpointMetadata
    from nuclass_pipeline.models.global_ import GlobalClassifier
    from nuclass_pipeline.models.local import LocalClassifier

logger = logging.getLogger(__name__)

_AGAIN = "Remove the file and run again; models that were trained on other features are then trained again."
_STRUCTURED = ("layers", "spec")
MAX_MPP_RATIO = 1.4
"""Largest ratio of two pixel sizes of one magnification: those of scanners at 40x are from 0.21 to 0.28 µm, and 20x has twice as much."""


class FrozenFeatures(Section):
    """What the features of a frozen encoder depend on: in the file of features, and in the checkpoint of a model trained on them.

    Attributes
    ----------
    encoder
        Its name.
    key
        Short hash of its settings.
    weights_sha256
        SHA-256 of its weights; empty for random ones.
    views
        Vectors of each window: of the window as it is, and of its turns and mirror images.
    image_px
        Side to which windows are resized, px.
    layers, pool
        What its vector is made of; None for the encoder's own.
    field_um, mpp
        Side of the windows and their pixel size, µm.
    tile_um
        Side of the cores of the tiles that windows were pooled from, µm; None where the encoder read each window.
    dim
        Size of the vector.
    spec
        Description of the network, as `encoders.assemble` reads it.
    """

    encoder: str
    key: str
    weights_sha256: str
    views: int = Field(1, ge=1)
    image_px: int = Field(ge=1)
    layers: Any = None
    pool: str | None = None
    field_um: float = Field(gt=0)
    mpp: float = Field(gt=0)
    tile_um: float | None = None
    dim: int = Field(ge=1)
    spec: dict[str, Any]

    @classmethod
    def of(cls, config: BackboneConfig, *, field_um: float, mpp: float, dim: int, spec: dict[str, Any]) -> "FrozenFeatures":
        """Describe the features of an encoder of the run file; its weights are read for their hash."""
        chosen, own = config.features, config.entry
        layers = chosen.layers if chosen.layers is not None else own.layers
        return cls(
            encoder=config.name,
            key=config.key,
            weights_sha256=weights_sha256(config.weights_files),
            views=config.views,
            image_px=config.image_px,
            layers=list(layers) if isinstance(layers, tuple) else layers,
            pool=chosen.pool or own.pool,
            field_um=field_um,
            mpp=mpp,
            tile_um=config.tile_um,
            dim=dim,
            spec=spec,
        )

    @classmethod
    def read(cls, path: Path) -> "FrozenFeatures":
        """Read what a file of features depends on.

        Raises
        ------
        UserError
            If the file is missing or broken, holds no features or others than it says, or lacks an entry.
        """
        with open_h5(path) as file:
            if "feature" not in file:
                problem = "the dataset is missing, and the encoder is frozen"
                raise UserError(path, "feature", problem, "Name the feature file that embed_windows wrote for this slide.")
            found = {name: file.attrs[name] for name in cls.model_fields if name in file.attrs}
            shape = file["feature"].shape
        try:
            plain = {name: value.item() if hasattr(value, "item") else value for name, value in found.items()} | {
                "dim": shape[-1] if shape else 0
            }
            described = cls.model_validate(plain | {name: json.loads(plain[name]) for name in _STRUCTURED if name in plain})
        except (ValidationError, ValueError, TypeError) as error:
            name = str(error.errors()[0]["loc"][0]) if isinstance(error, ValidationError) else _STRUCTURED[0]
            raise UserError(path, name, "the attribute is missing or not of this version", _AGAIN) from error
        if shape[1:] != ((described.views, described.dim) if described.views > 1 else (described.dim,)):
            raise UserError(path, "feature", f"its shape is {list(shape)}, and the attribute views is {described.views}", _AGAIN)
        return described

    @property
    def attributes(self) -> dict[str, Any]:
        """The same as attributes of an HDF5 file."""
        values = self.model_dump(exclude={"dim"})
        return {name: json.dumps(value) if name in _STRUCTURED else value for name, value in values.items() if value is not None}

    def check(self, path: Path, field: str, holder: str) -> None:
        """Check that a file holds these features.

        Parameters
        ----------
        path
            File of features.
        field
            `local_um` or `context_um`: which side of the run file its windows have.
        holder
            What needs these features, for messages: the run file, or a checkpoint.

        Raises
        ------
        UserError
            If the file was written by another encoder or by other weights, or from windows of another side, other views, or another
            magnification. Another pixel size of one magnification is a warning.
        """
        found = FrozenFeatures.read(path)
        if max(found.mpp, self.mpp) > MAX_MPP_RATIO * min(found.mpp, self.mpp):
            problem = f"is {found.mpp:.10g} µm in the file, and {self.mpp:.10g} µm in {holder}, so the encoder saw another magnification"
            remedy = "Use one pixel size for all slides (image.mpp is that of all but patch datasets), or leave this one out."
            raise UserError(path, "mpp", problem, remedy)
        warn_of_mpp(path, found.mpp, self.mpp)
        for name in ("encoder", "field_um", "image_px", "layers", "pool", "weights_sha256", "views", "tile_um", "key", "dim"):
            here, wanted = getattr(found, name), getattr(self, name)
            if here != wanted:
                raise UserError(
                    path, name, f"is {_shown(here)} in the file, and {_shown(wanted)} in {holder}", _remedy(name, field, wanted)
                )

    def build(self, config: BackboneConfig) -> Encoder:
        """Build the encoder of these features from its weights.

        Raises
        ------
        UserError
            If the weights are missing, broken or others.
        """
        weights = config.weights_files
        if (found := weights_sha256(weights)) != self.weights_sha256:
            problem = f"their SHA-256 is {_shown(found)}, and the models were trained with {_shown(self.weights_sha256)}"
            remedy = "Put back the weights of the training, or train the models again."
            raise UserError(weights[0] if weights else config.name, "weights", problem, remedy)
        return build_frozen(config)


def warn_of_mpp(path: Path, found: float, wanted: float) -> None:
    """Log that windows have another pixel size than those that a model was trained on, µm."""
    # No error, because models resize windows, and the field of view is the same.
    if abs(found - wanted) > 1e-6 * wanted:
        logger.warning("%s: its pixel size is %.10g µm, and that of the models %.10g: it differs in detail", path, found, wanted)


def build_frozen(config: BackboneConfig) -> Encoder:
    """Build a frozen encoder in evaluation mode; random weights are always the same."""
    # Without the switch, because nothing is trained, and forked, because the draws of a training must not depend on it.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_backbone(config.model_copy(update={"gradient_checkpointing": False})).eval().requires_grad_(False)


def attach_encoders(local: "LocalClassifier", global_: "GlobalClassifier", meta: "CheckpointMetadata") -> list[str]:
    """Add their frozen encoders to both paths, so that they take images.

    Returns
    -------
    list of str
        A warning for each path that was trained on features of tiles, which those of single windows only resemble.

    Raises
    ------
    UserError
        If weights are missing, broken or others than those of the training.
    """
    if local.backbone is None and meta.local_features is not None:
        local.backbone = global_.local.backbone = meta.local_features.build(meta.local.backbone)
    if global_.encoder is None and meta.context_features is not None and meta.global_ is not None:
        global_.encoder = meta.context_features.build(meta.global_.context)
    paths = {"local": meta.local_features, "global": meta.context_features}
    tiled = [path for path, features in paths.items() if features is not None and features.tile_um is not None]
    return [f"the {path} path was trained on features of tiles, and reads windows here, so its outputs differ a little" for path in tiled]


def _remedy(name: str, field: str, wanted: Any) -> str:
    return f"Set image.{field} to {wanted:.10g}, or train the models again." if name == "field_um" else _AGAIN


def _shown(value: Any) -> str:
    return "none" if value in (None, "") else str(value)
