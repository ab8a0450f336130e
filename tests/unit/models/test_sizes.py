"""The parameter counts of the paper's models (16 classes, 8 organs)."""

import pytest
import torch
from torch import nn

from nuclass_pipeline.config.models import GateConfig, GlobalConfig, LocalConfig
from nuclass_pipeline.models.backbones import UNI2_H
from nuclass_pipeline.models.encoders import Encoder, assemble
from nuclass_pipeline.models.gate import Gate
from nuclass_pipeline.models.global_ import GlobalClassifier
from nuclass_pipeline.models.layers import ClassifierHead, FiLM
from nuclass_pipeline.models.local import LocalClassifier
from nuclass_pipeline.models.networks.specs import plain_spec


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def uni2_h() -> Encoder:
    with torch.device("meta"):
        return assemble(plain_spec("timm", "vit_giant_patch14_224", UNI2_H, (0.5,) * 3, (0.5,) * 3))


def test_uni2_h_has_the_published_tensors() -> None:
    encoder = uni2_h()
    assert size(encoder) == 681_394_176
    assert len(encoder.state_dict()) == 343
    assert encoder.dim == 1536
    assert len(encoder.blocks()) == 26


def test_blocks_hold_every_parameter_once() -> None:
    encoder = uni2_h()
    ids = [id(parameter) for block in encoder.blocks() for parameter in block]
    assert sorted(ids) == sorted(id(parameter) for parameter in encoder.parameters())
    assert len(encoder.blocks()[-1]) == 2


def test_film() -> None:
    film = FiLM(1536, 8, 64)
    assert (size(film.modulation), size(film.embedding), size(film.norm)) == (404_608, 512, 3_072)


@pytest.mark.parametrize(("dim", "parameters"), [(1536, 1_590_288), (1024, 1_066_000)])
def test_heads(dim: int, parameters: int) -> None:
    assert size(ClassifierHead(dim, 16, 0.2)) == parameters


def test_global_path_at_full_size() -> None:
    with torch.device("meta"):
        local = LocalClassifier(uni2_h(), classes=16, organs=8, config=LocalConfig())
        path = GlobalClassifier(local, None, 1024, classes=16, config=GlobalConfig())
    assert size(path.local_projection) == 790_016
    assert size(path.context_projection) == 526_848
    assert size(path.inner_gate) == 262_913
    assert size(path) == 681_394_176 + 404_608 + 512 + 3_072 + 1_590_288 + 790_016 + 526_848 + 1_066_000 + 262_913


def test_gate() -> None:
    gate = Gate(1536, 1024, GateConfig())
    assert (size(gate.local_projection), size(gate.global_projection), size(gate.network)) == (199_808, 133_248, 84_353)
    assert size(gate) == 417_409
    assert gate.network[0].in_features == 264
