"""A small residual network that can be trained on a few thousand cells and on a CPU."""

from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import silu

from nuclass_pipeline.models.encoders import Encoder, MapEncoder

WIDTHS = (24, 32, 64, 96)


class Residual(nn.Module):
    """Two 3 × 3 convolutions in parallel with a 1 × 1, halving the side (He et al. 2016).

    Parameters
    ----------
    inputs, outputs
        Numbers of channels.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_convolve(inputs, outputs, stride=2), nn.SiLU(), _convolve(outputs, outputs, stride=1))
        self.skip = nn.Conv2d(inputs, outputs, 1, stride=2, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h / 2, w / 2)."""
        return silu(self.body(images) + self.skip(images))


class TinyResNet(nn.Module):
    """A stem and three residual blocks, each of which halves the side."""

    num_features = WIDTHS[-1]

    def __init__(self) -> None:
        super().__init__()
        # The colours of each image are standardised, because slides differ in the strength of their stain.
        self.stem = nn.Sequential(nn.InstanceNorm2d(3), _convolve(3, WIDTHS[0], stride=2), nn.SiLU())
        self.stages = nn.ModuleList(Residual(inputs, outputs) for inputs, outputs in pairwise(WIDTHS))

    def forward_features(self, images: Tensor) -> Tensor:
        """Map images (B, 3, S, S) to the last feature map (B, 96, S / 16, S / 16)."""
        features: Tensor = self.stem(images)
        for stage in self.stages:
            features = stage(features)
        return features


def _convolve(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs))


def build_tiny(spec: dict[str, Any]) -> Encoder:
    """Build the encoder of this network, with random weights."""
    return MapEncoder(TinyResNet(), spec, [TinyResNet.num_features])
