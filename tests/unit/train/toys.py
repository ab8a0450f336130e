"""Slides whose classes show in the crop (colour of the middle) and in the context (colour of the frame), and models for them."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from nuclass_pipeline.config.backbones.section import BackboneConfig
from nuclass_pipeline.config.compute import Compute
from nuclass_pipeline.config.models import GateConfig, GateOptimConfig, GlobalConfig, GlobalOptimConfig, LocalConfig, LocalOptimConfig
from nuclass_pipeline.models.backbones import build_backbone
from nuclass_pipeline.models.checkpoint import CheckpointMetadata, save_checkpoint
from nuclass_pipeline.models.frozen import FrozenFeatures
from nuclass_pipeline.models.global_ import GlobalClassifier
from nuclass_pipeline.models.local import LocalClassifier
from nuclass_pipeline.vocabulary import ORGANS

CLASSES = ("Acinar", "Ductal", "Macrophage", "T_Cell")
COLORS = np.array([[200, 60, 60], [60, 60, 200]])
COMPUTE = Compute(gpu=0, precision="32-true", workers=0, cache_gb=1)
FROZEN = BackboneConfig(name="tiny-vit", image_px=32, freeze=True)
FEATURES = FrozenFeatures.of(FROZEN, field_um=16, mpp=0.25, dim=64, spec={})
"""Features of the context windows of `write_slide`."""
SUBSETS = ("train", "train", "gate", "val")


def write_images(path: Path, ids: list[str], images: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        file["images"] = images
        file.create_dataset("keys", data=ids, dtype=h5py.string_dtype())
        file["padded"] = np.zeros(len(ids), dtype=bool)
        file.attrs.update(mpp=0.25, fill=255)
    return path


def write_slide(folder: Path, cells: int, seed: int, side: int = 32, wide: int = 64, subsets: tuple[str, ...] = SUBSETS) -> dict[str, Any]:
    """Class = 2·(colour of the frame in the context) + colour of the middle of the crop."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    kind = rng.integers(4, size=cells)
    crops = rng.integers(150, 255, size=(cells, side, side, 3))
    crops[:, side // 3 : -side // 3, side // 3 : -side // 3] = COLORS[kind % 2][:, None, None]
    contexts = rng.integers(150, 255, size=(cells, wide, wide, 3))
    contexts[:, : wide // 4] = COLORS[kind // 2][:, None, None]
    noise = rng.integers(-30, 30, size=crops.shape), rng.integers(-30, 30, size=contexts.shape)
    crops, contexts = ((image + n).clip(0, 255).astype(np.uint8) for image, n in zip((crops, contexts), noise, strict=True))
    ids = [f"cell-{number}" for number in range(cells)]
    order = rng.permutation(cells)
    files = {
        "patches": write_images(folder / "patches_224x224.h5", ids, crops),
        "contexts": write_images(folder / "patches_1024x1024.h5", [ids[i] for i in order], contexts[order]),
    }
    labels = pd.DataFrame({"cell_id": ids, "label": np.array(CLASSES)[kind], "confidence": 1.0})
    labels.loc[labels.index % 25 == 7, "label"] = "Unresolved"
    for name in ("cluster", "candidate", "lineage", "reason"):
        labels[name] = ""
    for name in ("support", "margin", "purity"):
        labels[name] = 1.0
    split = pd.DataFrame({"cell_id": ids, "subset": [subsets[i % len(subsets)] for i in range(cells)], "block": "0"})
    table = pd.DataFrame({"cell_id": ids, "x_um": 0.0, "y_um": 0.0, "transcripts": 1, "controls": 0})
    table["cell_area_um2"] = table["nucleus_area_um2"] = table["nucleus_transcripts"] = 1.0
    for name, frame in (("labels", labels), ("split", split), ("cells", table)):
        files[name] = folder / f"{name}.parquet"
        frame.to_parquet(files[name])
    return files


BRIEF: dict[str, Any] = {
    "lr_backbone": 1e-3,
    "lr_head": 1e-3,
    "layer_decay": 1.0,
    "warmup_steps": 2,
    "clip_norm": 1.0,
    "batch_size": 32,
    "accumulate": 1,
    "max_epochs": 3,
    "checks_per_epoch": 1,
}


def local_optim(**changes: Any) -> LocalOptimConfig:
    return LocalOptimConfig(**{**BRIEF, **changes})


def global_optim(**changes: Any) -> GlobalOptimConfig:
    return GlobalOptimConfig(**{**BRIEF, **changes})


def local_config(**changes: Any) -> LocalConfig:
    base = {
        "backbone": BackboneConfig(name="tiny-resnet", image_px=32),
        "optim": local_optim(),
        "freeze_backbone_epochs": 0,
        "augment": False,
        "organ_dim": 8,
    }
    return LocalConfig(**{**base, **changes})


def global_config(**changes: Any) -> GlobalConfig:
    base = {
        "context": BackboneConfig(name="tiny-resnet", image_px=32),
        "optim": global_optim(),
        "lr_context": 1e-3,
        "projection": 32,
    }
    return GlobalConfig(**{**base, **changes})


def gate_config(**changes: Any) -> GateConfig:
    optim = GateOptimConfig(lr_head=2e-3, warmup_steps=2, batch_size=32, max_epochs=10)
    return GateConfig(**{"optim": optim, "projection": 16, "hidden": (16, 8), **changes})


def training_files(slides: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the keyword arguments of `train_local` that name files."""
    columns = {
        plural: [s[single] for s in slides] for plural, single in (("patches", "patches"), ("labels", "labels"), ("splits", "split"))
    }
    return {**columns, "organs": ["lung", "pancreas", "colon"][: len(slides)]}


def make_global() -> tuple[GlobalClassifier, CheckpointMetadata]:
    """Return an untrained global path for frozen context features of 64 values, and its metadata."""
    local, config = local_config(), global_config(context=FROZEN)
    inner = LocalClassifier(build_backbone(local.backbone), classes=len(CLASSES), organs=len(ORGANS), config=local)
    meta = CheckpointMetadata(
        kind="global",
        classes=CLASSES,
        organs=ORGANS,
        mpp=0.25,
        local_um=8,
        context_um=16,
        context_features=FEATURES,
        local=local,
        global_=config,
        backbone=inner.backbone.spec,
        dims={"local": inner.backbone.dim, "context": 64, "global": 2 * config.projection},
        seed=0,
    )
    return GlobalClassifier(inner, None, 64, classes=len(CLASSES), config=config), meta


def save_models(folder: Path) -> dict[str, Path]:
    """Write untrained checkpoints of both paths; keys are those of the stages."""
    model, meta = make_global()
    save_checkpoint(folder / "local.ckpt", model.local, meta.model_copy(update={"kind": "local", "global_": None}))
    save_checkpoint(folder / "global.ckpt", model, meta)
    return {"local": folder / "local.ckpt", "global_": folder / "global.ckpt"}


def write_features(path: Path, cells: int, **attributes: Any) -> Path:
    """Write the features of a frozen context encoder for all cells of a slide."""
    with h5py.File(path, "w") as file:
        file["feature"] = np.random.default_rng(0).normal(size=(cells, 64)).astype(np.float16)
        file.create_dataset("cell_id", data=[f"cell-{number}" for number in range(cells)], dtype=h5py.string_dtype())
        file.attrs.update(FEATURES.attributes | attributes)
    return path


BREAKS = ("garbage", "truncated")


def break_file(path: Path, how: str) -> None:
    """Replace a file by garbage, or by its first half."""
    content = path.read_bytes()
    path.write_bytes(b"no HDF5 at all" if how == "garbage" else content[: len(content) // 2])


def damage(path: Path, name: str) -> None:
    """Store a dataset compressed and overwrite its first chunk, as a bad disk does: the file can be opened, but not read."""
    with h5py.File(path, "a") as file:
        values = file[name][:]
        del file[name]
        stored = file.create_dataset(name, data=values, chunks=(1, *values.shape[1:]), compression="gzip")
        chunk = stored.id.get_chunk_info(0)
    with path.open("r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(b"\xff" * chunk.size)
