"""Checkpoints that explain themselves: weights with everything needed to rebuild and to use the model."""

import pickle
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn

import nuclass_pipeline
from nuclass_pipeline.config.base import Section
from nuclass_pipeline.config.models import GateConfig, GlobalConfig, LocalConfig, ModelName
from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io import require, whole_file

FORMAT = "nuclass-checkpoint-1"


class CheckpointMetadata(Section):
    """What a checkpoint says about its model."""

    kind: ModelName = Field(description="local, global or gate")
    classes: tuple[str, ...] = Field(description="names of the columns of the probabilities")
    organs: tuple[str, ...] = Field(description="organs in the order of the embedding")
    mpp: float = Field(gt=0, description="pixel size of the images it was trained on, µm")
    local: LocalConfig = Field(description="configuration of path local")
    global_: GlobalConfig | None = Field(None, description="configuration of path global")
    gate: GateConfig | None = Field(None, description="configuration of the gate")
    backbone: dict[str, Any] = Field(description="the local encoder, with its normalisation; see `encoders.assemble`")
    context: dict[str, Any] | None = Field(None, description="the context encoder; empty when it is frozen and so not in the file")
    dims: dict[str, int] = Field(description="sizes of the vectors between the modules")
    seed: int = Field(description="seed of the training")
    epoch: int = Field(-1, description="epoch of these weights")
    score: float = Field(float("-1"), description="macro-F1 on the validation cells")
    version: str = Field(nuclass_pipeline.__version__, description="version of the package")


def save_checkpoint(path: Path | str, model: nn.Module, meta: CheckpointMetadata) -> None:
    """Write a model whole or not at all."""
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
    remedy = "Train the model again, or use the checkpoint that this version wrote."
    try:
        content = torch.load(require(path), map_location="cpu", weights_only=True)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise UserError(path, "format", f"not a {FORMAT} file", remedy)
        meta = CheckpointMetadata.model_validate(content["meta"])
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, ValidationError) as error:
        raise UserError(path, "file", f"not a readable checkpoint ({str(error).splitlines()[0]})", remedy) from error
    if meta.kind != kind:
        raise UserError(path, "kind", f"is a {meta.kind} model, not {kind}", "Name the right checkpoint.")
    return meta, content["state"]
