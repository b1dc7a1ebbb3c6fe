"""MobileNetV2: Sandler et al., Inverted residuals and linear bottlenecks (CVPR 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pliant_models.networks.layers import ConvNorm, scaled

STEM, LAST = 32, 1280

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
          (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, blocks and stride of the first block (table 2 of the paper)."""


class InvertedResidual(nn.Module):
    """Expands by a 1x1, filters by a 3x3 depthwise, projects by a linear 1x1 convolution."""

    def __init__(self, channels: int, out: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        layers = [] if expansion == 1 else [ConvNorm(channels, inner, 1, activation=nn.ReLU6())]
        layers += [
            ConvNorm(inner, inner, 3, stride=stride, groups=inner, activation=nn.ReLU6()),
            ConvNorm(inner, out, 1),
        ]
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and channels == out

    def forward(self, value: Tensor) -> Tensor:
        """Return (images, out, height / stride, width / stride)."""
        result: Tensor = self.layers(value)
        return result + value if self.residual else result


class MobileNetV2(nn.Module):
    """MobileNetV2: (images, 3, size, size) to (images, classes).

    Parameters
    ----------
    width : float
        Factor for all channels; 1 as published. Unlike in the paper, one below 1 narrows the last
        convolution, too.
    size : int
        Height and width of the images, a multiple of 32. No layer depends on it.
    classes : int
    """

    def __init__(self, *, width: float = 1.0, size: int = 224, classes: int = 1000) -> None:
        super().__init__()
        channels = scaled(STEM, width)
        layers: list[nn.Module] = [ConvNorm(3, channels, 3, stride=2, activation=nn.ReLU6())]
        for expansion, stage, blocks, first_stride in STAGES:
            for position in range(blocks):
                out = scaled(stage, width)
                stride = 1 if position else first_stride
                layers.append(InvertedResidual(channels, out, stride, expansion))
                channels = out
        layers.append(ConvNorm(channels, scaled(LAST, width), 1, activation=nn.ReLU6()))
        self.features = nn.Sequential(*layers)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(scaled(LAST, width), classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        value = self.mean(self.features(images))
        logits: Tensor = self.classifier(torch.flatten(value, 1))
        return logits
