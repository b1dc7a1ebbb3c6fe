"""ResNet-18 and ResNet-50: He et al., Deep residual learning for image recognition (CVPR 2016).

Shortcuts are projections where the shape changes (option B). ResNet-50 is version 1.5: a
bottleneck's stride is in its 3x3 convolution, not in the 1x1 before it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from pliant_models.networks.layers import ConvNorm, scaled

STAGE_CHANNELS = (64, 128, 256, 512)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, then ReLU."""

    expansion = 1

    def __init__(self, channels: int, inner: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels, inner, 3, stride=stride, activation=nn.ReLU())
        self.conv2 = ConvNorm(inner, inner, 3)
        self.shortcut = _shortcut(channels, inner, stride)

    def forward(self, value: Tensor) -> Tensor:
        """Return (images, inner, height / stride, width / stride)."""
        return functional.relu(self.conv2(self.conv1(value)) + self.shortcut(value))


class Bottleneck(nn.Module):
    """A 1x1, a strided 3x3 and a 1x1 convolution beside a shortcut, then ReLU."""

    expansion = 4

    def __init__(self, channels: int, inner: int, stride: int) -> None:
        super().__init__()
        out = inner * self.expansion
        self.conv1 = ConvNorm(channels, inner, 1, activation=nn.ReLU())
        self.conv2 = ConvNorm(inner, inner, 3, stride=stride, activation=nn.ReLU())
        self.conv3 = ConvNorm(inner, out, 1)
        self.shortcut = _shortcut(channels, out, stride)

    def forward(self, value: Tensor) -> Tensor:
        """Return (images, 4 * inner, height / stride, width / stride)."""
        inner = self.conv2(self.conv1(value))
        return functional.relu(self.conv3(inner) + self.shortcut(value))


def _shortcut(channels: int, out: int, stride: int) -> nn.Module:
    if channels == out and stride == 1:
        return nn.Identity()
    return ConvNorm(channels, out, 1, stride=stride)


class ResNet(nn.Module):
    """A residual network for images: (images, 3, size, size) to (images, classes).

    Parameters
    ----------
    block : class of the residual blocks
    depths : tuple of 4 int
        Blocks of each stage.
    width : float
        Factor for all channels; 1 as published.
    size : int
        Height and width of the images, a multiple of 32. No layer depends on it.
    classes : int
    """

    def __init__(
        self, block: type[BasicBlock] | type[Bottleneck], depths: tuple[int, int, int, int], *,
        width: float = 1.0, size: int = 224, classes: int = 1000,
    ) -> None:
        super().__init__()
        channels = scaled(STAGE_CHANNELS[0], width)
        self.stem = ConvNorm(3, channels, 7, stride=2, activation=nn.ReLU())
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        stages = []
        for index, (stage, depth) in enumerate(zip(STAGE_CHANNELS, depths, strict=True)):
            blocks = []
            for position in range(depth):
                inner = scaled(stage, width)
                stride = 2 if index and not position else 1
                blocks.append(block(channels, inner, stride))
                channels = inner * block.expansion
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        value = self.mean(self.stages(self.pool(self.stem(images))))
        logits: Tensor = self.classifier(torch.flatten(value, 1))
        return logits


def resnet18(*, width: float = 1.0, size: int = 224, classes: int = 1000) -> ResNet:
    """Return ResNet-18."""
    return ResNet(BasicBlock, (2, 2, 2, 2), width=width, size=size, classes=classes)


def resnet50(*, width: float = 1.0, size: int = 224, classes: int = 1000) -> ResNet:
    """Return ResNet-50, version 1.5."""
    return ResNet(Bottleneck, (3, 4, 6, 3), width=width, size=size, classes=classes)
