"""Learning rates, decay, warm-up, and that what is unfrozen really moves."""

import pytest
import torch
from torch import nn

from nuclass_pipeline.config.models import BackboneConfig
from nuclass_pipeline.models.backbones import build_backbone
from nuclass_pipeline.train.optim import Rate, alpha_schedule, encoder_rates, layer_rates, make_optimiser, undecayed, warmup


def test_golden_layer_rates() -> None:
    rates = layer_rates(24, 3e-6, 0.85)
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


def test_groups_are_merged_and_complete() -> None:
    encoder = build_backbone(BackboneConfig(name="tiny-vit", image_px=32))
    optimiser, _ = make_optimiser(encoder, encoder_rates(encoder, 1e-3, 0.5), 0.1, 10)
    grouped = [id(p) for group in optimiser.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in encoder.parameters())
    keys = [(group["initial_lr"], group["weight_decay"]) for group in optimiser.param_groups]
    assert len(keys) == len(set(keys)) <= 2 * len(encoder.blocks())


def test_no_decay_on_norms_biases_and_embeddings() -> None:
    model = nn.ModuleDict({"embedding": nn.Embedding(3, 4), "linear": nn.Linear(4, 4), "norm": nn.LayerNorm(4)})
    model.pos_embed = nn.Parameter(torch.zeros(1, 5, 4))
    spared = undecayed(model)
    decayed = [name for name, parameter in model.named_parameters() if id(parameter) not in spared]
    assert decayed == ["linear.weight"]


def test_parameters_unfrozen_later_are_trained() -> None:
    torch.manual_seed(0)
    body, head = nn.Linear(3, 3), nn.Linear(3, 2)
    model = nn.Sequential(body, head)
    body.requires_grad_(False)
    optimiser, schedule = make_optimiser(model, [Rate([*body.parameters()], 0.1, start=1), Rate([*head.parameters()], 0.1)], 0.01, 0)
    moved = []
    for step in range(2):
        body.requires_grad_(step == 1)
        before = body.weight.clone()
        optimiser.zero_grad()
        model(torch.ones(4, 3)).square().sum().backward()
        optimiser.step()
        schedule.step()
        moved.append(not torch.equal(before, body.weight))
    assert moved == [False, True]
