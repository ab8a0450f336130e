"""Augmentation of whole batches on the device, with parameters of its own for each image."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

LUMA = (0.299, 0.587, 0.114)
STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
"""Optical densities of haematoxylin, eosin and a third colour in red, green and blue (Ruifrok and Johnston 2001)."""
_TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


@dataclass(frozen=True)
class AugmentRanges:
    """How far each change may go; the defaults are the paper's (arXiv 2511.13586)."""

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
    """Affine maps (B, 2, 3) from output to input; factors of brightness, contrast, saturation and the hue angle, rad, each (B,).

    `stain` (B, 3) multiplies the densities of haematoxylin, eosin and what neither explains.
    """

    affine: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    stain: Tensor


def sample_augmentation(count: int, generator: torch.Generator, limits: AugmentRanges) -> AugmentParams:
    """Draw the parameters of `count` images on the generator's device."""

    def within(limit: float) -> Tensor:
        return (2 * torch.rand(count, generator=generator, device=generator.device) - 1) * limit

    angle, scale = within(math.radians(limits.degrees)), 1 + within(limits.scale)
    flips = 1 - 2 * (torch.rand(2, count, generator=generator, device=generator.device) < limits.flip).float()
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    # grid_sample's coordinates span −1 to 1, so a shift of a fraction of the side is twice that fraction.
    x = torch.stack([flips[0] * cos, -flips[0] * sin, within(2 * limits.shift)], dim=-1)
    y = torch.stack([flips[1] * sin, flips[1] * cos, within(2 * limits.shift)], dim=-1)
    color = (1 + within(limits.brightness), 1 + within(limits.contrast), 1 + within(limits.saturation), within(2 * math.pi * limits.hue))
    stain = 1 + torch.stack([within(limits.stain) for _ in range(3)], dim=1)
    return AugmentParams(torch.stack([x, y], dim=1), *color, stain)


def augment(images: Tensor, jitter: AugmentParams) -> Tensor:
    """Move, restain and recolour images (B, 3, S, S), values 0–1."""
    return recolor(restain(move(images, jitter), jitter), jitter)


def move(images: Tensor, jitter: AugmentParams) -> Tensor:
    """Flip, rotate, shift and scale images (B, 3, S, S) in one resampling, mirrored at the edges."""
    grid = affine_grid(jitter.affine.to(images), list(images.shape), align_corners=False)
    return grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def restain(images: Tensor, jitter: AugmentParams) -> Tensor:
    """Change the strength of each stain of images (B, 3, S, S), values 0–1, in optical density (Tellez et al. 2018)."""
    stains = images.new_tensor(STAINS)
    stains = stains / stains.norm(dim=1, keepdim=True)
    change = torch.linalg.inv(stains) @ (jitter.stain.to(images)[:, :, None] * stains)
    density = -torch.log(images.clamp(min=1 / 255))
    return torch.exp(-torch.einsum("bij,bihw->bjhw", change, density)).clamp(0, 1)


def recolor(images: Tensor, jitter: AugmentParams) -> Tensor:
    """Change brightness, contrast about the image's mean luma, saturation and hue (a turn in YIQ) of images (B, 3, S, S), values 0–1."""
    brightness, contrast, saturation, hue = (values.to(images) for values in jitter[1:5])
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
