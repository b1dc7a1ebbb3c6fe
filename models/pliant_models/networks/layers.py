"""What the networks share: a convolution with batch norm, and channel counts under a width."""

from __future__ import annotations

from torch import nn

CHANNEL_MULTIPLE = 8
"""Scaled channel counts are multiples of this, as in MobileNetV2's paper."""


class ConvNorm(nn.Sequential):
    """A convolution without bias, batch norm, and an activation if given.

    Parameters
    ----------
    channels, out_channels : int
    kernel : int
        Odd; the padding keeps height and width where `stride` is 1.
    stride, groups : int
    activation : nn.Module or None
    """

    def __init__(
        self, channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, kernel, stride=stride, groups=groups,
                              padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        if activation is not None:
            self.activation = activation


def scaled(channels: int, width: float) -> int:
    """Return `channels` times `width`, to the nearest multiple of 8, and not 10% below it."""
    target = channels * width
    rounded = max(CHANNEL_MULTIPLE,
                  int(target + CHANNEL_MULTIPLE / 2) // CHANNEL_MULTIPLE * CHANNEL_MULTIPLE)
    return rounded if rounded >= 0.9 * target else rounded + CHANNEL_MULTIPLE
