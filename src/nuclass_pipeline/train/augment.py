"""Augmentation of whole batches on the device; each image has its own parameters."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

LUMA = (0.299, 0.587, 0.114)
STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
"""Optical densities of haematoxylin, eosin and the remaining colour in red, green and blue (Ruifrok and Johnston 2001)."""
MIN_INTENSITY = 1 / 255
QUARTERS = 4
"""Quarter turns of an image."""
_TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


@dataclass(frozen=True)
class AugmentRanges:
    """Largest change of each kind; the defaults are the paper's (arXiv 2511.13586).

    Attributes
    ----------
    flip
        Probability of a flip, for each axis.
    degrees
        Rotation, ± degrees.
    shift
        Shift along each axis, ± fraction of the side.
    scale
        Change of size, ± fraction.
    brightness, contrast, saturation
        Change of the factor, ± around 1.
    hue
        Turn of the hue, ± fraction of a full circle.
    stain
        Change of the strength of each stain, ± around 1; 0 in the paper.
    """

    flip: float = 0.5
    degrees: float = 15.0
    shift: float = 0.05
    scale: float = 0.05
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.05
    stain: float = 0.0


class AugmentParams(NamedTuple):
    """Parameters of the augmentation of B images.

    Attributes
    ----------
    affine
        (B, 2, 3) maps from output to input coordinates, which span −1 to 1.
    brightness, contrast, saturation
        (B,) factors.
    hue
        (B,) angles, rad.
    stain
        (B, 3) factors of the optical densities of haematoxylin, eosin and the remaining colour.
    """

    affine: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    stain: Tensor


def sample_augmentation(count: int, generator: torch.Generator, ranges: AugmentRanges) -> AugmentParams:
    """Draw the parameters of `count` images on the generator's device, uniform within `ranges`."""

    def within(limit: float) -> Tensor:
        return (2 * torch.rand(count, generator=generator, device=generator.device) - 1) * limit

    angle, scale = within(math.radians(ranges.degrees)), 1 + within(ranges.scale)
    flips = 1 - 2 * (torch.rand(2, count, generator=generator, device=generator.device) < ranges.flip).float()
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    # Twice the fraction, because grid_sample's coordinates span −1 to 1.
    x = torch.stack([flips[0] * cos, -flips[0] * sin, within(2 * ranges.shift)], dim=-1)
    y = torch.stack([flips[1] * sin, flips[1] * cos, within(2 * ranges.shift)], dim=-1)
    color = (1 + within(ranges.brightness), 1 + within(ranges.contrast), 1 + within(ranges.saturation), within(2 * math.pi * ranges.hue))
    # Drawn for a range of 0 too, because the other draws of a training then stay the same with and without it.
    stain = 1 + torch.stack([within(ranges.stain) for _ in range(3)], dim=1)
    return AugmentParams(torch.stack([x, y], dim=1), *color, stain)


def augment(images: Tensor, params: AugmentParams) -> Tensor:
    """Move, restain and recolour images (B, 3, S, S), values 0–1."""
    return recolor(restain(move(images, params), params), params)


def turned_views(images: Tensor, views: int) -> Iterator[Tensor]:
    """Yield images (B, 3, S, S) as they are, then turned by further quarters, then their mirror images likewise: `views` of these 8."""
    for view in range(views):
        yield turn(images, view)


def turn(images: Tensor, view: int) -> Tensor:
    """Return one of the 8 views of images (B, 3, S, S)."""
    mirrored = images if view < QUARTERS else images.flip(-1)
    return torch.rot90(mirrored, view % QUARTERS, (-2, -1)) if view % QUARTERS else mirrored


def turn_back(maps: Tensor, view: int) -> Tensor:
    """Return maps (B, channels, h, w) of a view in the place of the images themselves."""
    upright = torch.rot90(maps, -(view % QUARTERS), (-2, -1))
    return upright if view < QUARTERS else upright.flip(-1)


def move(images: Tensor, params: AugmentParams) -> Tensor:
    """Flip, rotate, shift and scale images (B, 3, S, S); edges are mirrored."""
    # One affine map for all, because every resampling blurs the nuclei once more.
    grid = affine_grid(params.affine.to(images), list(images.shape), align_corners=False)
    return grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def restain(images: Tensor, params: AugmentParams) -> Tensor:
    """Change the strength of each stain of images (B, 3, S, S), values 0–1, in optical density (Tellez et al. 2018)."""
    stains = images.new_tensor(STAINS)
    stains = stains / stains.norm(dim=1, keepdim=True)
    change = torch.linalg.inv(stains) @ (params.stain.to(images)[:, :, None] * stains)
    # The darkest step of 8 bits above black, because black itself has an infinite density.
    density = -torch.log(images.clamp(min=MIN_INTENSITY))
    return torch.exp(-torch.einsum("bij,bihw->bjhw", change, density)).clamp(0, 1)


def recolor(images: Tensor, params: AugmentParams) -> Tensor:
    """Change brightness, contrast, saturation and hue of images (B, 3, S, S), values 0–1.

    Contrast is about the mean luma of each image; hue is a turn in YIQ, which keeps the luma.
    """
    brightness, contrast, saturation, hue = (values.to(images) for values in params[1:5])
    luma = images.new_tensor(LUMA)
    matrix = _hue_matrix(hue) @ _saturation_matrix(saturation, luma) * (brightness * contrast)[:, None, None]
    mean = (images.mean((2, 3)) * luma).sum(1)
    offset = (1 - contrast) * brightness * mean
    # Saturation and hue leave grey alone, so the grey offset of the contrast passes through them unchanged.
    colored: Tensor = torch.einsum("bij,bjhw->bihw", matrix, images).add(offset[:, None, None, None]).clamp(0, 1)
    return colored


def _saturation_matrix(saturation: Tensor, luma: Tensor) -> Tensor:
    factor = saturation[:, None, None]
    return factor * torch.eye(3, device=luma.device, dtype=luma.dtype) + (1 - factor) * luma.expand(3, 3)


def _hue_matrix(angle: Tensor) -> Tensor:
    to_yiq = torch.tensor(_TO_YIQ, device=angle.device, dtype=angle.dtype)
    turn = torch.zeros(len(angle), 3, 3, device=angle.device, dtype=angle.dtype)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = torch.cos(angle)
    turn[:, 1, 2], turn[:, 2, 1] = -torch.sin(angle), torch.sin(angle)
    matrix: Tensor = torch.linalg.inv(to_yiq) @ turn @ to_yiq
    return matrix
