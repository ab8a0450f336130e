"""Checkpoints: weights, with all that is needed to rebuild and to use the model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn

import nuclass_pipeline
from nuclass_pipeline.config.base import Section
from nuclass_pipeline.config.models import GateConfig, GlobalConfig, LocalConfig, ModelName
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import first_line, require, whole_file
from nuclass_pipeline.models.weights import UNREADABLE, Network, as_state, fill, read_pickle
from nuclass_pipeline.runtime import stay_offline

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
    mpp
        Pixel size of the training images, µm.
    local, global_, gate
        Configurations; those of models that are not part of it are None.
    backbone
        Description of the local encoder, as `encoders.assemble` reads it.
    context
        Description of the context encoder; None if it is frozen, because its weights are then not in the file.
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
    mpp: float = Field(gt=0)
    local: LocalConfig
    global_: GlobalConfig | None = None
    gate: GateConfig | None = None
    backbone: dict[str, Any]
    context: dict[str, Any] | None = None
    dims: dict[str, int]
    seed: int
    epoch: int = -1
    score: float = -1.0
    version: str = nuclass_pipeline.__version__


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
        meta, state = CheckpointMetadata.model_validate(content["meta"]), as_state(content["state"])
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


def _reason(error: BaseException) -> str:
    """Return what is wrong: of a description, the first field and what holds for it."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return f"{first_line(error)} is missing" if isinstance(error, KeyError) else first_line(error)
