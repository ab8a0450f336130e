"""Learning rates, decay, warm-up, and the training of parameters that are unfrozen later."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from nuclass_pipeline.config.backbones.section import BackboneConfig
from nuclass_pipeline.models.backbones import build_backbone
from nuclass_pipeline.train.optim import (
    ParamGroup,
    alpha_schedule,
    encoder_param_groups,
    layer_learning_rates,
    make_optimizer,
    no_decay_ids,
    schedule,
    warmup,
)


def test_golden_layer_rates() -> None:
    rates = layer_learning_rates(24, 3e-6, 0.85)
    assert len(rates) == 26
    found = (rates[1], rates[12], rates[24], rates[0], rates[25])
    assert found == pytest.approx((7.1410e-8, 4.2673e-7, 3e-6, 6.0698e-8, 3e-6), rel=1e-4)


def test_golden_alpha() -> None:
    assert [alpha_schedule(epoch, 0.25, 1.0, 2) for epoch in range(4)] == [0.25, 0.625, 1, 1]
    assert alpha_schedule(0, 0.25, 1.0, 0) == 1


def test_warmup_starts_when_it_should() -> None:
    assert [warmup(4)(step) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert [warmup(2, 3)(step) for step in range(6)] == [0, 0, 0, 0.5, 1, 1]
    assert warmup(0)(0) == 1


def test_a_constant_rate_is_the_warmup() -> None:
    for start in (0, 3):
        assert [schedule(4, start, 0)(step) for step in range(200)] == [warmup(4, start)(step) for step in range(200)]


def test_a_cosine_falls_to_nothing() -> None:
    factors = [schedule(0, 0, 40)(step) for step in range(60)]
    assert (factors[0], factors[10], factors[20], factors[30]) == pytest.approx((1, 0.853553, 0.5, 0.146447), abs=1e-6)
    assert factors[40:] == pytest.approx([0] * 20, abs=1e-12)
    assert all(later < earlier for earlier, later in pairwise(factors[:41]))


def test_a_cosine_rises_first_and_does_not_wait_for_what_starts_late() -> None:
    plain, risen, late = schedule(0, 0, 40), schedule(4, 0, 40), schedule(4, 8, 40)
    assert [risen(step) / plain(step) for step in range(6)] == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
    assert [late(step) / plain(step) for step in (7, 8, 9, 10, 11, 39)] == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1])


@pytest.mark.parametrize(("cosine_steps", "expected"), [(0, [0.1, 0.1, 0.1]), (4, [0.1, 0.05, 0.0])])
def test_the_optimizer_follows_the_schedule(cosine_steps: int, expected: list[float]) -> None:
    layer = nn.Linear(2, 2)
    optimizer, falling = make_optimizer(layer, [ParamGroup([*layer.parameters()], 0.1)], 0.0, 0, cosine_steps)
    found = []
    for step in range(5):
        if step % 2 == 0:
            found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        falling.step()
    assert found == pytest.approx(expected, abs=1e-9)


def test_groups_are_merged_and_complete() -> None:
    encoder = build_backbone(BackboneConfig(name="tiny-vit", image_px=32))
    optimizer, _ = make_optimizer(encoder, encoder_param_groups(encoder, 1e-3, 0.5), 0.1, 10)
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in encoder.parameters())
    keys = [(group["initial_lr"], group["weight_decay"]) for group in optimizer.param_groups]
    assert len(keys) == len(set(keys)) <= 2 * len(encoder.blocks())


def test_no_decay_on_norms_biases_and_embeddings() -> None:
    model = nn.ModuleDict({"embedding": nn.Embedding(3, 4), "linear": nn.Linear(4, 4), "norm": nn.LayerNorm(4)})
    model.pos_embed = nn.Parameter(torch.zeros(1, 5, 4))
    spared = no_decay_ids(model)
    decayed = [name for name, parameter in model.named_parameters() if id(parameter) not in spared]
    assert decayed == ["linear.weight"]


def test_parameters_unfrozen_later_are_trained() -> None:
    torch.manual_seed(0)
    body, head = nn.Linear(3, 3), nn.Linear(3, 2)
    model = nn.Sequential(body, head)
    body.requires_grad_(False)
    optimizer, rising = make_optimizer(
        model, [ParamGroup([*body.parameters()], 0.1, start=1), ParamGroup([*head.parameters()], 0.1)], 0.01, 0
    )
    moved = []
    for step in range(2):
        body.requires_grad_(step == 1)
        before = body.weight.clone()
        optimizer.zero_grad()
        model(torch.ones(4, 3)).square().sum().backward()
        optimizer.step()
        rising.step()
        moved.append(not torch.equal(before, body.weight))
    assert moved == [False, True]
