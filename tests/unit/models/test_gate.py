"""The gate's inputs and its mixture."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from nuclass_pipeline.config.models import GateConfig
from nuclass_pipeline.models.gate import Gate, statistics
from nuclass_pipeline.models.mixture import mix, path_confidence

LOCAL = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.1, 0.3, 0.6], [0.4, 0.35, 0.25]])
GLOBAL = torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7], [0.8, 0.1, 0.1], [0.2, 0.6, 0.2]])
EXPECTED_LOCAL = torch.tensor([[0.7, 0.5, 0.6, 0.4], [0.729847, 0.937231, 0.817345, 0.983539], [0.5, 0.2, 0.3, 0.05]]).T
EXPECTED_GLOBAL = torch.tensor([[0.6, 0.7, 0.8, 0.6], [0.817345, 0.729847, 0.581672, 0.864974], [0.3, 0.5, 0.7, 0.4]]).T


def test_golden_statistics() -> None:
    torch.testing.assert_close(path_confidence(LOCAL), EXPECTED_LOCAL, rtol=0, atol=6e-7)
    torch.testing.assert_close(path_confidence(GLOBAL), EXPECTED_GLOBAL, rtol=0, atol=6e-7)


def test_order_of_the_statistics() -> None:
    found = statistics(LOCAL, GLOBAL)
    difference = EXPECTED_GLOBAL[:, 0] - EXPECTED_LOCAL[:, 0]
    pairs = [column for index in range(3) for column in (EXPECTED_LOCAL[:, index], EXPECTED_GLOBAL[:, index])]
    torch.testing.assert_close(found, torch.stack([*pairs, difference, difference.abs()], dim=1), rtol=0, atol=6e-7)


def test_certainty_has_no_entropy() -> None:
    torch.testing.assert_close(path_confidence(torch.eye(3)), torch.tensor([[1.0, 0.0, 1.0]]).expand(3, 3))


@given(st.integers(0, 2**31), st.integers(2, 20))
def test_mixtures_are_distributions(seed: int, classes: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    local, global_ = (torch.randn(5, classes, generator=generator).mul(4).softmax(-1) for _ in range(2))
    mixed = mix(torch.rand(5, generator=generator), local, global_)
    torch.testing.assert_close(mixed.sum(-1), torch.ones(5))
    assert ((mixed >= torch.minimum(local, global_) - 1e-6) & (mixed <= torch.maximum(local, global_) + 1e-6)).all()


def test_g_is_the_weight_of_the_global_path() -> None:
    assert torch.equal(mix(torch.zeros(4), LOCAL, GLOBAL), LOCAL)
    assert torch.equal(mix(torch.ones(4), LOCAL, GLOBAL), GLOBAL)


def test_one_logit_per_cell() -> None:
    gate = Gate(6, 4, GateConfig(projection=3, hidden=(5, 4)))
    assert gate(torch.randn(4, 6), torch.randn(4, 4), LOCAL, GLOBAL).shape == (4,)
