"""The objectives against golden values."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nuclass_pipeline.config.models import GateConfig, GlobalConfig
from nuclass_pipeline.train.losses import (
    balanced_nll,
    class_weights,
    gate_loss,
    gate_target,
    gate_weight,
    global_loss,
    positive_weight,
    smoothed_cross_entropy,
    uncertainty_weight,
)

LOCAL_P = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.1, 0.3, 0.6], [0.4, 0.35, 0.25]])
GLOBAL_P = torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7], [0.8, 0.1, 0.1], [0.2, 0.6, 0.2]])
LABEL = torch.tensor([0, 2, 2, 1])
LOGIT = torch.tensor([0.0, 1.0, -1.0, 0.5])


def close(found: torch.Tensor, *expected: float) -> None:
    torch.testing.assert_close(found.reshape(-1), torch.tensor(expected), rtol=0, atol=1e-6)


def test_class_weights() -> None:
    close(class_weights(torch.tensor([1000, 50000, 200]), 0.9999), 0.508331, 0.048704, 2.442965)


def test_absent_classes_weigh_nothing() -> None:
    close(class_weights(torch.tensor([1000, 0, 50000, 200]), 0.9999), 0.508331, 0, 0.048704, 2.442965)


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=20).filter(any), st.sampled_from([0, 0.9, 0.9999, 0.999999]))
def test_observed_classes_weigh_one_on_average(counts: list[int], beta: float) -> None:
    tensor = torch.tensor(counts)
    weights = class_weights(tensor, beta)
    assert weights[tensor > 0].mean().item() == pytest.approx(1, abs=1e-5)
    assert (weights[tensor == 0] == 0).all()
    assert (weights[tensor > 0] > 0).all()


def test_uncertainty_weight() -> None:
    p = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.1, 0.9]])
    close(uncertainty_weight(p, torch.zeros(3, dtype=torch.long), 2), 0.01, 0.25, 0.81)


def global_example(**changes: object) -> tuple[torch.Tensor, object]:
    local = torch.tensor([[2.0, 0, -1], [0, 1, 0.5]], requires_grad=True)
    wide = torch.tensor([[0.5, 0.2, 0], [1, 0, 2.0]])
    gate, label = torch.tensor([[0.25], [0.75]]), torch.tensor([0, 2])
    config = GlobalConfig(**changes)
    return local, global_loss(local, wide, gate, label, torch.tensor([0.5, 1, 1.5]), config)


def test_global_objective() -> None:
    local, loss = global_example()
    close(local.softmax(-1)[[0, 1], [0, 2]].detach(), 0.843795, 0.307196)
    close(uncertainty_weight(local.softmax(-1), torch.tensor([0, 2]), 2).detach(), 0.024400, 0.479978)
    close(loss.fused.detach(), 0.132784)
    close(loss.own.detach(), 0.554180)
    close(loss.total.detach(), 0.299038)


def test_the_focus_can_be_detached() -> None:
    gradients = []
    for detached in (False, True):
        local, loss = global_example(detach_focus=detached)
        loss.total.backward()
        gradients.append(local.grad)
    assert not torch.allclose(*gradients)


def test_smoothing_follows_torch() -> None:
    logits, label, weights = torch.tensor([[1.0, 0, -1], [0, 2, 1]]), torch.tensor([0, 2]), torch.tensor([0.5, 1, 1.5])
    log_p = logits.log_softmax(-1)
    hard = -weights[label] * log_p[[0, 1], label]
    soft = -(weights * log_p).sum(-1) / 3
    close(smoothed_cross_entropy(logits, label, 0.1, weights), ((0.9 * hard + 0.1 * soft).sum() / weights[label].sum()).item())


def test_gate_targets_and_weights() -> None:
    target = gate_target(LOCAL_P, GLOBAL_P, LABEL, 10)
    close(target, 0.268941, 1, 0, 1)
    close(gate_weight(LOCAL_P, GLOBAL_P, LABEL, GateConfig()), 1.1, 3.4, 3.5, 3.25)
    close(positive_weight(target, 12), *[0.762937] * 4)


@pytest.mark.parametrize(("value", "expected"), [(0.0, 999.0), (1.0, 0.001001)])
def test_positive_weight_is_bounded(value: float, expected: float) -> None:
    assert positive_weight(torch.full((4,), value), 4).tolist() == pytest.approx([expected] * 4, rel=1e-3)


def test_the_positive_weight_is_that_of_a_few_cells() -> None:
    # t = (.268941, 1, 0, 1): t̄ is .634471 for the first two cells, and .5 for the last two.
    target = gate_target(LOCAL_P, GLOBAL_P, LABEL, 10)
    close(positive_weight(target, 2), 0.576117, 0.576117, 1, 1)
    close(positive_weight(target, 3), *[1.364175] * 3, 0.001001)
    # By hand: (1.1·.693147·(.576117·.268941 + .731059) + 3.4·.576117·.313262 + 3.5·.313262 + 3.25·.474077) / 4.
    close(gate_loss(LOGIT, LOCAL_P, GLOBAL_P, LABEL, GateConfig(balance_cells=2)).target, 0.981581)


def test_a_batch_of_384_has_the_gradient_of_32_batches_of_12() -> None:
    generator = torch.Generator().manual_seed(0)
    local, wide = (torch.rand(384, 5, generator=generator).softmax(-1) for _ in range(2))
    label, start = torch.randint(5, (384,), generator=generator), torch.randn(384, generator=generator)
    config, gradients = GateConfig(), []
    for cells in (384, 12):
        logit = start.clone().requires_grad_()
        parts = [part.split(cells) for part in (logit, local, wide, label)]
        losses = [gate_loss(*part, GateConfig(balance_cells=12)).total for part in zip(*parts, strict=True)]
        torch.stack(losses).mean().backward()
        gradients.append(logit.grad)
    torch.testing.assert_close(*gradients)
    assert config.balance_cells == 12 and config.optim.batch_size == 12 * 32
    logit = start.clone().requires_grad_()
    gate_loss(logit, local, wide, label, GateConfig(balance_cells=384)).total.backward()
    assert not torch.allclose(logit.grad, gradients[0], rtol=0.01)


def test_gate_loss() -> None:
    loss = gate_loss(LOGIT, LOCAL_P, GLOBAL_P, LABEL, GateConfig())
    for found, expected in zip(loss, (1.786585, 0.949589, 0.013260, 0.009488, 2.758922), strict=True):
        close(found, expected)


def test_the_balanced_loss_is_the_mean_over_classes() -> None:
    p = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.8, 0.1, 0.1]])
    close(balanced_nll(p, torch.tensor([0, 0, 2])), (math.log(2) + math.log(4)) / 4 + math.log(10) / 2)
    assert balanced_nll(torch.tensor([[1.0, 0.0]]), torch.tensor([1])).isfinite()


def test_without_the_fused_term_the_path_trains_on_its_own() -> None:
    _, loss = global_example(fused_weight=0.0)
    close(loss.total.detach(), 0.3 * 0.554180)


def test_an_objective_without_a_term_is_refused() -> None:
    with pytest.raises(ValueError, match=r"fused_weight and global_weight are both 0, so nothing is trained\. Set one of them above 0"):
        GlobalConfig(fused_weight=0, global_weight=0)


def test_a_sure_gate_has_finite_gradients() -> None:
    logit = torch.tensor([60.0, -60.0, 0.0, 90.0], requires_grad=True)
    gate_loss(logit, LOCAL_P, GLOBAL_P, LABEL, GateConfig()).total.backward()
    assert logit.grad is not None
    assert logit.grad.isfinite().all()
