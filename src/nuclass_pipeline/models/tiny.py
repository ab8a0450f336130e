"""A small residual network that learns from a few thousand cells on a CPU."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import silu

WIDTHS = (24, 32, 64, 96)


class Residual(nn.Module):
    """Two 3 × 3 convolutions beside a 1 × 1, halving the side (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_convolve(inputs, outputs, stride=2), nn.SiLU(), _convolve(outputs, outputs, stride=1))
        self.skip = nn.Conv2d(inputs, outputs, 1, stride=2, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h / 2, w / 2)."""
        return silu(self.body(images) + self.skip(images))


class TinyResNet(nn.Module):
    """Four halvings; the first layer standardises each image's colours, which takes most of the stain's strength away."""

    num_features = WIDTHS[-1]

    def __init__(self) -> None:
        super().__init__()
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
