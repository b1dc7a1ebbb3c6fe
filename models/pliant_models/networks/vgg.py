"""VGG-16: Simonyan and Zisserman, Very deep convolutional networks (ICLR 2015), column D."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pliant_models.networks.layers import scaled

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and 3x3 convolutions of each stage; a 2x2 max pool ends it."""

HIDDEN = 4096


class VGG16(nn.Module):
    """VGG-16 without batch norm: (images, 3, size, size) to (images, classes).

    Parameters
    ----------
    width : float
        Factor for all channels and hidden features; 1 as published.
    size : int
        Height and width of the images, a multiple of 32; 224 as published.
    classes : int
    """

    def __init__(self, *, width: float = 1.0, size: int = 224, classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for stage, convolutions in STAGES:
            for _ in range(convolutions):
                out = scaled(stage, width)
                layers += [nn.Conv2d(channels, out, 3, padding=1), nn.ReLU()]
                channels = out
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        side, hidden = size >> len(STAGES), scaled(HIDDEN, width)
        self.classifier = nn.Sequential(
            nn.Linear(channels * side * side, hidden), nn.ReLU(), nn.Dropout(0.5),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(0.5), nn.Linear(hidden, classes))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.classifier(torch.flatten(self.features(images), 1))
        return logits
