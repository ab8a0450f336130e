"""Augmentation: the identity at zero strength, exact flips, and exact colours."""

import math

import numpy as np
import pytest
import torch

from nuclass_pipeline.train.augment import (
    LUMA,
    STAINS,
    AugmentParams,
    AugmentRanges,
    augment,
    move,
    recolor,
    restain,
    sample_augmentation,
    turned_views,
)

STILL = AugmentRanges(flip=0, degrees=0, shift=0, scale=0, brightness=0, contrast=0, saturation=0, hue=0, stain=0)


def images(count: int = 3, side: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def drawn_params(count: int = 3, **ranges: float) -> AugmentParams:
    return sample_augmentation(count, torch.Generator().manual_seed(0), AugmentRanges(**{**vars(STILL), **ranges}))


def color(**changes: float) -> AugmentParams:
    return drawn_params()._replace(**{name: torch.full((3,), value) for name, value in changes.items()})


def test_views_are_the_turns_of_an_image_and_of_its_mirror_image() -> None:
    batch = images()
    views = list(turned_views(batch, 8))
    for number, (one, mirrored) in enumerate(zip(views[:4], views[4:], strict=True)):
        expected = [np.rot90(start, number, (2, 3)) for start in (batch.numpy(), batch.numpy()[..., ::-1])]
        np.testing.assert_array_equal(one, expected[0])
        np.testing.assert_array_equal(mirrored, expected[1])
    assert len({view.numpy().tobytes() for view in views}) == 8
    for count in (1, 4):
        assert all(torch.equal(one, other) for one, other in zip(turned_views(batch, count), views[:count], strict=True))


def test_zero_strength_changes_nothing() -> None:
    torch.testing.assert_close(move(images(), drawn_params()), images(), atol=1e-5, rtol=0)
    torch.testing.assert_close(recolor(images(), drawn_params()), images(), atol=1e-5, rtol=0)
    visible = images().clamp(min=1 / 255)
    assert (images() < 1 / 255).any()
    torch.testing.assert_close(restain(images(), drawn_params()), visible, atol=1e-5, rtol=0)
    torch.testing.assert_close(augment(images(), drawn_params()), visible, atol=1e-5, rtol=0)


def test_certain_flips_turn_by_half() -> None:
    torch.testing.assert_close(move(images(), drawn_params(flip=1)), images().flip(2, 3), atol=1e-5, rtol=0)


def test_each_image_has_its_own_parameters() -> None:
    drawn = sample_augmentation(200, torch.Generator().manual_seed(0), AugmentRanges())
    assert len(drawn.affine.unique(dim=0)) == 200
    flipped = drawn.affine[:, 0, 0] < 0
    assert 0.35 < flipped.float().mean() < 0.65


def test_ranges_hold() -> None:
    drawn = sample_augmentation(2000, torch.Generator().manual_seed(0), AugmentRanges())
    size = torch.linalg.det(drawn.affine[:, :, :2]).abs().sqrt()
    assert size.min() >= 1 / 1.05 - 1e-5
    assert size.max() <= 1 / 0.95 + 1e-5
    assert drawn.affine[:, :, 2].abs().max() <= 0.1
    angle = torch.atan2(drawn.affine[:, 0, 1].abs(), drawn.affine[:, 0, 0].abs())
    assert angle.max() <= math.radians(15) + 1e-6
    assert drawn.hue.abs().max() <= 2 * math.pi * 0.05
    for factor in (drawn.brightness, drawn.contrast, drawn.saturation):
        assert (factor - 1).abs().max() <= 0.2
    assert drawn.brightness.std() > 0.1
    assert drawn.stain.shape == (2000, 3)
    assert (drawn.stain == 1).all()
    stain = sample_augmentation(2000, torch.Generator().manual_seed(0), AugmentRanges(stain=0.3)).stain
    assert (stain - 1).abs().max() <= 0.3
    assert (stain.std(0) > 0.15).all()
    assert torch.corrcoef(stain.T).triu(1).abs().max() < 0.1


def test_a_shift_is_a_fraction_of_the_side() -> None:
    shifted = drawn_params()
    shifted.affine[:, 0, 2] = 2 * 4 / 16
    torch.testing.assert_close(move(images(), shifted)[..., :12], images()[..., 4:], atol=1e-5, rtol=0)


def test_brightness() -> None:
    torch.testing.assert_close(recolor(images(), color(brightness=0.8)), images() * 0.8)


def test_contrast_pulls_to_the_mean_of_each_image() -> None:
    mean = (images().mean((2, 3)) * torch.tensor(LUMA)).sum(1)[:, None, None, None]
    torch.testing.assert_close(recolor(images(), color(contrast=0.5)), 0.5 * images() + 0.5 * mean)


def test_no_saturation_is_grey() -> None:
    grey = (images() * torch.tensor(LUMA)[:, None, None]).sum(1, keepdim=True).expand(3, 3, 16, 16)
    torch.testing.assert_close(recolor(images(), color(saturation=0.0)), grey, atol=1e-6, rtol=0)


def test_hue_keeps_luma_and_greys() -> None:
    dull = 0.4 + 0.2 * images()
    turned = recolor(dull, color(hue=0.3))
    assert not torch.allclose(turned, dull)
    luma = torch.tensor(LUMA)[:, None, None]
    torch.testing.assert_close((turned * luma).sum(1), (dull * luma).sum(1), atol=1e-5, rtol=0)
    grey = torch.full((3, 3, 4, 4), 0.5)
    torch.testing.assert_close(recolor(grey, color(hue=0.3)), grey, atol=1e-4, rtol=0)


@pytest.mark.parametrize("seed", range(3))
def test_the_generator_decides(seed: int) -> None:
    first, second = (sample_augmentation(4, torch.Generator().manual_seed(seed), AugmentRanges()) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)


def dyed(amounts: list[float], count: int = 3) -> torch.Tensor:
    """Return images of one colour that have these amounts of haematoxylin, eosin and the third colour."""
    unit = torch.tensor(STAINS) / torch.tensor(STAINS).norm(dim=1, keepdim=True)
    return torch.exp(-(torch.tensor(amounts) @ unit)).view(1, 3, 1, 1).expand(count, 3, 4, 4)


def strength(*factors: list[float]) -> AugmentParams:
    return drawn_params()._replace(stain=torch.tensor(factors))


@pytest.mark.parametrize("stain", range(3))
def test_a_doubled_stain_has_twice_the_density_and_no_other_changes(stain: int) -> None:
    factors = [[2.0 if i == stain else 1.0 for i in range(3)]] * 3
    for dye in range(3):
        pure = dyed([0.4 if i == dye else 0.0 for i in range(3)])
        expected = -torch.log(pure) * (2 if dye == stain else 1)
        torch.testing.assert_close(-torch.log(restain(pure, strength(*factors))), expected, atol=1e-5, rtol=0)


def test_a_mixture_changes_dye_by_dye() -> None:
    stained = restain(dyed([0.5, 0.3, 0.1]), strength(*[[1.4, 0.6, 1.2]] * 3))
    torch.testing.assert_close(stained, dyed([0.7, 0.18, 0.12]), atol=1e-5, rtol=0)


def test_white_stays_white() -> None:
    white = torch.ones(3, 3, 4, 4)
    torch.testing.assert_close(restain(white, strength([0.5, 1.5, 1.0], [1.9, 0.1, 0.3], [1.0, 1.0, 1.0])), white, atol=1e-6, rtol=0)


def test_black_stays_within_the_range() -> None:
    stained = restain(torch.zeros(3, 3, 4, 4), strength([0.5, 1.5, 1.0], [1.9, 0.1, 0.3], [2.0, 2.0, 2.0]))
    assert stained.isfinite().all()
    assert stained.min() >= 0
    assert stained.max() <= 1


def test_each_image_is_stained_by_itself() -> None:
    changes = strength([1.5, 1.0, 1.0], [1.0, 0.5, 1.0], [1.0, 1.0, 1.0])
    stained = restain(images(), changes)
    for index in range(3):
        alone = restain(images()[index : index + 1], AugmentParams(*(values[index : index + 1] for values in changes)))
        torch.testing.assert_close(stained[index : index + 1], alone)
    torch.testing.assert_close(stained[2], images()[2].clamp(min=1 / 255), atol=1e-5, rtol=0)
    assert (stained[:2] - images()[:2]).abs().mean((1, 2, 3)).min() > 0.02


def test_augmentation_moves_then_restains_then_recolors() -> None:
    drawn = sample_augmentation(3, torch.Generator().manual_seed(2), AugmentRanges(stain=0.3))
    expected = recolor(restain(move(images(), drawn), drawn), drawn)
    assert torch.equal(augment(images(), drawn), expected)
    assert not torch.allclose(expected, restain(recolor(move(images(), drawn), drawn), drawn), atol=1e-2)


def test_stain_jitter_leaves_the_other_draws_alone() -> None:
    without, with_ = (sample_augmentation(5, torch.Generator().manual_seed(4), AugmentRanges(stain=stain)) for stain in (0.0, 0.4))
    for one, other in zip(without[:5], with_[:5], strict=True):
        assert torch.equal(one, other)
