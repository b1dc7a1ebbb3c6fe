"""CoDeNet: Dong et al., Efficient deformable object detection on FPGAs (arXiv:2006.08357).

A ShuffleNetV2 backbone, a decoder whose 3x3 depthwise convolutions are scaled by one offset for
each pixel, and CenterNet's heads (Zhou et al., Objects as points, arXiv:1904.07850) at a quarter of
the image's size. The decoder here computes the offset, dilation - 1, itself, which is the published
network with another bias. Taps between pixels are interpolated, as in the published training, or
take the nearest pixel, as the published hardware does.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from pliant.spec.sampling import FRACTION_BITS, Offsets, Sampling
from pliant_models.deformable import DeformableConv2d
from pliant_models.networks.layers import ConvNorm

STAGE_UNITS = (4, 8, 4)

DECODER_CHANNELS = (256, 128, 64)

HEAD_CHANNELS = 64

HEATMAP_BIAS = -2.19
"""The heat map's first guess is a probability of 0.1 everywhere."""

MIN_OFFSET, MAX_OFFSET = -8.0, 7.0
"""Of the dilation from 1, in pixels: a dilation of -7 to 8."""

SAMPLING = Sampling(offsets=Offsets.SCALED, minimum=int(MIN_OFFSET) << FRACTION_BITS,
                    maximum=int(MAX_OFFSET) << FRACTION_BITS)

CHANNELS = {1: (24, 116, 232, 464, 1024), 2: (24, 244, 488, 976, 2153)}
"""Of the stem, the three stages and the last convolution, by width."""


@dataclass(frozen=True)
class Configuration:
    """One of the published networks: `channels`, side of the image, and whether the stem pools."""

    channels: tuple[int, int, int, int, int]
    size: int
    pooled: bool


CONFIGURATIONS = {
    "a": Configuration(CHANNELS[1], 256, False),
    "b": Configuration(CHANNELS[1], 256, True),
    "c": Configuration(CHANNELS[1], 512, False),
    "d": Configuration(CHANNELS[2], 512, False),
    "e": Configuration(CHANNELS[2], 512, True),
}

VOC_CLASSES = 20


class Detection(NamedTuple):
    """What the heads yield at a quarter of the image's size, (images, ., height, width).

    `heatmap` are logits for each class, `size` width and height of the box in pixels of the heads,
    `shift` how far right of and below the pixel its centre lies.
    """

    heatmap: Tensor
    size: Tensor
    shift: Tensor


class Unit(nn.Module):
    """ShuffleNetV2's unit: half of the channels pass, the others are filtered; then a shuffle."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.filter = _filter(channels // 2, channels // 2, stride=1)

    def forward(self, value: Tensor) -> Tensor:
        """Return a tensor of the same shape."""
        passed, filtered = value.chunk(2, dim=1)
        return _shuffle(torch.cat([passed, self.filter(filtered)], dim=1))


class DownUnit(nn.Module):
    """ShuffleNetV2's unit of stride 2: two branches, both filtered; then a shuffle."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.project = nn.Sequential(
            ConvNorm(channels, channels, 3, stride=2, groups=channels),
            ConvNorm(channels, out // 2, 1, activation=nn.ReLU()))
        self.filter = _filter(channels, out // 2, stride=2)

    def forward(self, value: Tensor) -> Tensor:
        """Return (images, out, height / 2, width / 2)."""
        return _shuffle(torch.cat([self.project(value), self.filter(value)], dim=1))


def _filter(channels: int, out: int, *, stride: int) -> nn.Module:
    return nn.Sequential(
        ConvNorm(channels, out, 1, activation=nn.ReLU()),
        ConvNorm(out, out, 3, stride=stride, groups=out),
        ConvNorm(out, out, 1, activation=nn.ReLU()))


def _shuffle(value: Tensor) -> Tensor:
    """Return the channels of both halves in turn."""
    images, channels, height, width = value.shape
    halves = value.view(images, 2, channels // 2, height, width)
    return halves.transpose(1, 2).reshape(images, channels, height, width)


class UpUnit(nn.Module):
    """A depthwise 3x3 convolution of learned dilation, a 1x1 convolution, twice the size."""

    def __init__(self, channels: int, out: int, *, interpolate: bool) -> None:
        super().__init__()
        self.offset = nn.Conv2d(channels, 1, 1)
        for parameter in self.offset.parameters():  # plain convolutions to begin with
            nn.init.zeros_(parameter)
        self.deformable = DeformableConv2d(channels, channels, 3, padding=1, groups=channels,
                                           bias=False, sampling=dataclasses.replace(
                                               SAMPLING, interpolate=interpolate))
        self.project = ConvNorm(channels, out, 1, activation=nn.ReLU())

    def forward(self, value: Tensor) -> Tensor:
        """Return (images, out, 2 * height, 2 * width)."""
        offset = functional.hardtanh(self.offset(value), MIN_OFFSET, MAX_OFFSET)
        projected = self.project(self.deformable(value, offset))
        return functional.interpolate(projected, scale_factor=2.0, mode="nearest")


class CoDeNet(nn.Module):
    """CoDeNet: (images, 3, size, size) to a Detection.

    Parameters
    ----------
    channels : tuple of 5 int
        Of the stem, the three stages and the last convolution; those of stages are even.
    pooled : bool
        The stem has stride 2 and a max pool behind it; else stride 4.
    classes : int
    interpolate : bool
        Taps of the decoder between pixels are interpolated; else they take the nearest.
    """

    def __init__(
        self, *, channels: tuple[int, int, int, int, int] = CHANNELS[1], pooled: bool = False,
        classes: int = VOC_CLASSES, interpolate: bool = True,
    ) -> None:
        super().__init__()
        stem, *stages, last = channels
        layers: list[nn.Module] = [
            ConvNorm(3, stem, 3, stride=2 if pooled else 4, activation=nn.ReLU())]
        if pooled:
            layers.append(nn.MaxPool2d(3, stride=2, padding=1))
        inner = stem
        for out, units in zip(stages, STAGE_UNITS, strict=True):
            layers.append(nn.Sequential(DownUnit(inner, out),
                                        *[Unit(out) for _ in range(units - 1)]))
            inner = out
        layers.append(ConvNorm(inner, last, 1, activation=nn.ReLU()))
        self.backbone = nn.Sequential(*layers)
        decoder = (last, *DECODER_CHANNELS)
        self.decoder = nn.Sequential(
            *[UpUnit(inner, out, interpolate=interpolate)
              for inner, out in itertools.pairwise(decoder)])
        self.heatmap = _head(decoder[-1], classes, HEATMAP_BIAS)
        self.size, self.shift = (_head(decoder[-1], 2, 0.0) for _ in range(2))

    def forward(self, images: Tensor) -> Detection:
        """Return what the heads yield."""
        value = self.decoder(self.backbone(images))
        return Detection(self.heatmap(value), self.size(value), self.shift(value))


def _head(channels: int, values: int, bias: float) -> nn.Module:
    last = nn.Conv2d(HEAD_CHANNELS, values, 1)
    assert last.bias is not None
    nn.init.constant_(last.bias, bias)
    return nn.Sequential(
        ConvNorm(channels, HEAD_CHANNELS, 1, activation=nn.ReLU()),
        ConvNorm(HEAD_CHANNELS, HEAD_CHANNELS, 3, groups=HEAD_CHANNELS, activation=nn.ReLU()),
        last)


def layer_bits(network: nn.Module) -> dict[str, int]:
    """Return the bits of the weights of every layer: 4, but 8 in the stem, as published."""
    convolutions = [(name, module) for name, module in network.named_modules()
                    if isinstance(module, nn.Conv2d)]
    return {name: 4 if index else 8 for index, (name, _) in enumerate(convolutions)}


def codenet(
    configuration: str, *, classes: int = VOC_CLASSES, interpolate: bool = True
) -> CoDeNet:
    """Return one of CONFIGURATIONS, for images of its size."""
    chosen = CONFIGURATIONS[configuration]
    return CoDeNet(channels=chosen.channels, pooled=chosen.pooled, classes=classes,
                   interpolate=interpolate)
