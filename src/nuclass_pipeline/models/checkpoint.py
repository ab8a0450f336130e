"""Checkpoints: weights, with all that is needed to rebuild and to use the model."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, ValidationError, model_validator
from torch import Tensor, nn

import nuclass_pipeline
from nuclass_pipeline.config.base import Section
from nuclass_pipeline.config.models import GateConfig, GlobalConfig, LocalConfig, ModelName
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import first_line, require, whole_file
from nuclass_pipeline.layout import USUAL_PX
from nuclass_pipeline.models.frozen import FrozenFeatures
from nuclass_pipeline.models.layers import UNKNOWN
from nuclass_pipeline.models.weights import UNREADABLE, Network, as_state, fill, read_pickle
from nuclass_pipeline.runtime import stay_offline
from nuclass_pipeline.vocabulary import ORGANS, OTHER_ORGAN, UNKNOWN_ORGAN

FORMAT = "nuclass-checkpoint-1"
_REMEDY = "Train the model again, or name a checkpoint that this version wrote."


class CheckpointMetadata(Section):
    """Metadata of a checkpoint.

    Attributes
    ----------
    kind
        `local`, `global` or `gate`.
    classes
        C class names, in the order of the probabilities.
    organs
        Organ names, in the order of the embedding.
    trained_organs
        Those of the training slides; empty in files of earlier versions, which do not say.
    mpp
        Pixel size of the training images, µm.
    local, global_, gate
        Configurations; those of models that are not part of it are None.
    local_um, context_um
        Sides of the windows, µm; None of the context of a local path. Without an entry, as in files of earlier versions, they are
        224 and 1024 px.
    backbone
        Description of the local encoder, as `encoders.assemble` reads it; None if it is frozen, because its weights are then not in
        the file.
    context
        Description of the context encoder; None if it is frozen.
    local_features, context_features
        What the features of frozen encoders depend on.
    dims
        Sizes of the feature vectors: `local`, `context` and `global`.
    seed
        Seed of the training.
    epoch, score
        Epoch of the weights, and their macro-F1 on the validation cells; −1 before the training.
    version
        Version of the package.
    """

    kind: ModelName
    classes: tuple[str, ...]
    organs: tuple[str, ...]
    trained_organs: tuple[str, ...] = ()
    mpp: float = Field(gt=0)
    local_um: float = Field(gt=0)
    context_um: float | None = Field(None, gt=0)
    local: LocalConfig
    global_: GlobalConfig | None = None
    gate: GateConfig | None = None
    backbone: dict[str, Any] | None = None
    context: dict[str, Any] | None = None
    local_features: FrozenFeatures | None = None
    context_features: FrozenFeatures | None = None
    dims: dict[str, int]
    seed: int
    epoch: int = -1
    score: float = -1.0
    version: str = nuclass_pipeline.__version__

    @model_validator(mode="before")
    @classmethod
    def _sides_of_earlier_versions(cls, values: Any) -> Any:
        mpp = values.get("mpp") if isinstance(values, dict) else None
        if not isinstance(mpp, int | float):
            return values
        earlier = {"local_um": USUAL_PX[0] * mpp} | ({} if values.get("kind") == "local" else {"context_um": USUAL_PX[1] * mpp})
        return earlier | values

    @property
    def feature_dims(self) -> dict[str, int]:
        """Sizes of the features that gates read: of the local path with the organ, and of the global path."""
        return {"local": self.local.feature_dim(self.dims["local"]), "global": self.dims["global"]}

    @property
    def usable_organs(self) -> tuple[str, ...]:
        """Organs that the model was trained on, and the unknown one if it was trained with organ dropout."""
        return (*(self.trained_organs or self.organs), *((UNKNOWN_ORGAN,) if self.local.learns_unknown_organ else ()))

    def organ_for(self, organ: str) -> str | None:
        """Return the organ as which cells of `organ` are classified: itself, or the unknown one; None if it is neither."""
        if organ in self.usable_organs:
            return organ
        # No other names, because one that is misspelt must not become the unknown organ.
        return UNKNOWN_ORGAN if organ in (*self.organs, *ORGANS, OTHER_ORGAN) and self.local.learns_unknown_organ else None

    def organ_index(self, organ: str) -> int:
        """Return the index of a usable organ in the embedding, −1 for the unknown one."""
        return UNKNOWN if organ == UNKNOWN_ORGAN else self.organs.index(organ)

    @model_validator(mode="after")
    def _encoders_are_described(self) -> "CheckpointMetadata":
        if self.backbone is None and self.local_features is None:
            raise ValueError("neither the local encoder nor its features are described")
        return self


def save_checkpoint(path: Path | str, model: nn.Module, meta: CheckpointMetadata) -> None:
    """Write the weights and metadata of a model, whole or not at all."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with whole_file(path) as partial:
        torch.save({"format": FORMAT, "meta": meta.model_dump(mode="json"), "state": state}, partial)


def load_checkpoint(path: Path | str, kind: ModelName) -> tuple[CheckpointMetadata, dict[str, Tensor]]:
    """Read a checkpoint of this kind.

    Raises
    ------
    UserError
        If the file is missing, broken, of another format, or holds another kind of model.
    """
    stay_offline()
    try:
        content = read_pickle(require(path))
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise UserError(path, "format", f"not a {FORMAT} file", _REMEDY)
        meta, state = CheckpointMetadata.model_validate(content["meta"]), _renamed(as_state(content["state"]))
    except UNREADABLE as error:
        raise UserError(path, "file", f"not a readable checkpoint ({_reason(error)})", _REMEDY) from error
    if meta.kind != kind:
        raise UserError(path, "kind", f"is a {meta.kind} model, not {kind}", f"Name a checkpoint of models/{kind}.")
    return meta, state


def restore(path: Path | str, kind: ModelName, build: Callable[[CheckpointMetadata], Network]) -> tuple[Network, CheckpointMetadata]:
    """Rebuild a model from its checkpoint alone, in evaluation mode.

    Parameters
    ----------
    path, kind
        The checkpoint, and which model it must be.
    build
        Function from the metadata to the model with random weights.

    Raises
    ------
    UserError
        If the file is missing, broken or of another model, or its weights do not fit its own description.
    """
    meta, state = load_checkpoint(path, kind)
    try:
        return fill(lambda: build(meta), state).eval(), meta
    except UNREADABLE as error:
        raise UserError(path, "weights", f"they do not fit its description ({_reason(error)})", _REMEDY) from error


def _renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    # Earlier versions knew no other conditioning than FiLM, and named the layer after it.
    return {re.sub(r"^(local\.)?film\.", r"\1conditioning.", name): tensor for name, tensor in state.items()}


def _reason(error: BaseException) -> str:
    """Return what is wrong: of a description, the first field and what holds for it."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return f"{first_line(error)} is missing" if isinstance(error, KeyError) else first_line(error)
