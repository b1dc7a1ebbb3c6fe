"""Draws the numbers of a node: weights, scales, bounds and zero points in every corner."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pliant.compiler.graph import (
    Add,
    AveragePool,
    Clip,
    Convolution,
    DeformableConvolution,
    DepthwiseConvolution,
    Lookup,
    MaxPool,
    Node,
    Padding,
    Requantization,
    SelectChannels,
    Shape,
    Tensor,
    Upsample,
)
from pliant.compiler.reference import output_size
from pliant.spec.numerics import (
    INT8_MAX,
    INT8_MIN,
    MAX_SHIFT,
    NARROW_WEIGHT_MAX,
    WEIGHT_MAX,
    Rounding,
)
from pliant.spec.sampling import FRACTION_BITS, MASK_ONE, Offsets, Sampling

MILD_ZERO_POINT = 30
"""Largest magnitude of zero points where `mild` is asked for."""


@dataclass(frozen=True)
class Window:
    """A window sliding over an input of `shape`."""

    shape: Shape
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: Padding

    def outputs(self) -> tuple[int, int]:
        """Return height and width of the output; not positive when the window does not fit."""
        pad = self.padding
        sides = ((pad.top, pad.bottom), (pad.left, pad.right))
        height, width = (
            output_size(self.shape[1 + axis], *sides[axis], self.kernel[axis], self.stride[axis],
                        self.dilation[axis])
            for axis in (0, 1)
        )
        return height, width

    def work(self) -> int:
        """Return channels times outputs times kernel taps."""
        return self.shape[0] * math.prod(self.outputs()) * math.prod(self.kernel)


class RandomNodes:
    """Makes nodes with random integers; shapes are given.

    Parameters
    ----------
    rng : Generator
    multiplier_bits : int
        Multipliers stay below ``2**multiplier_bits``.
    mild : bool
        Bounds and zero points leave most of the int8 range, so that a difference shows in layers
        far behind.

    Attributes
    ----------
    rounding : Rounding
        Of all nodes, but for some additions: drawn once.
    """

    def __init__(self, rng: Generator, multiplier_bits: int, *, mild: bool = False) -> None:
        self.rng = rng
        self.mild = mild
        self.multiplier_bits = multiplier_bits
        self.rounding = Rounding(int(rng.integers(3)))

    def convolution(
        self, name: str, source: Tensor, channels: int, window: Window, groups: int = 1
    ) -> Convolution:
        """Return a convolution, dense or grouped."""
        weight, bias, spread = self._weights(
            (channels, source.shape[0] // groups, *window.kernel), source)
        zero_point = self.zero_point()
        output = Tensor(name=name, shape=(channels, *window.outputs()), zero_point=zero_point)
        return Convolution(
            name=name, inputs=(source.name,), output=output, weight=weight, bias=bias,
            requantization=self._requantization(spread, zero_point), groups=groups,
            stride=window.stride, dilation=window.dilation, padding=window.padding)

    def depthwise(self, name: str, source: Tensor, window: Window) -> Node:
        """Return a depthwise convolution."""
        weight, bias, spread = self._weights((source.shape[0], *window.kernel), source)
        zero_point = self.zero_point()
        output = Tensor(name=name, shape=(source.shape[0], *window.outputs()),
                        zero_point=zero_point)
        return DepthwiseConvolution(
            name=name, inputs=(source.name,), output=output, weight=weight, bias=bias,
            requantization=self._requantization(spread, zero_point), stride=window.stride,
            dilation=window.dilation, padding=window.padding)

    def sampling(self, kernel: tuple[int, int]) -> Sampling:
        """Return any way to displace the taps of `kernel`."""
        rng = self.rng
        odd = all(size % 2 for size in kernel)
        offsets = Offsets(int(rng.integers(1 if odd else 2, 4)))
        low, high = INT8_MIN, INT8_MAX
        if rng.random() < 0.5:
            low, high = sorted(int(bound) for bound in rng.integers(INT8_MIN, INT8_MAX + 1, 2))
        return Sampling(
            offsets=offsets, fraction_bits=int(rng.choice([0, 2, FRACTION_BITS, FRACTION_BITS])),
            minimum=low, maximum=high, interpolate=bool(rng.random() < 0.75))

    def displacements(self, sampling: Sampling, window: Window) -> list[Tensor]:
        """Return tensors for the offsets and, if there are, the masks of a window."""
        size = window.outputs()
        offsets = Tensor(name="offsets", scale=2.0**-sampling.fraction_bits,
                         shape=(sampling.offset_channels(window.kernel), *size))
        masks = Tensor(name="masks", scale=1 / MASK_ONE, zero_point=-MASK_ONE,
                       shape=(sampling.mask_channels(window.kernel), *size))
        return [offsets, masks][:2 if sampling.offsets is Offsets.MODULATED else 1]

    def deformable(
        self, name: str, source: Tensor, displacements: list[Tensor], sampling: Sampling,
        channels: int, groups: int, window: Window,
    ) -> Node:
        """Return a deformable convolution, dense or in groups."""
        weight, bias, spread = self._weights(
            (channels, source.shape[0] // groups, *window.kernel), source)
        zero_point = self.zero_point()
        output = Tensor(name=name, shape=(channels, *window.outputs()), zero_point=zero_point)
        return DeformableConvolution(
            name=name, inputs=(source.name, *(tensor.name for tensor in displacements)),
            output=output, weight=weight, bias=bias, groups=groups, sampling=sampling,
            requantization=self._requantization(spread, zero_point), stride=window.stride,
            dilation=window.dilation, padding=window.padding)

    def select(self, name: str, sources: Sequence[Tensor], channels: NDArray[np.int64]) -> Node:
        """Return a selection of `channels` (index of a source, channel)."""
        first = sources[0]
        output = dataclasses.replace(first, name=name, shape=(len(channels), *first.shape[1:]))
        return SelectChannels(name=name, inputs=tuple(tensor.name for tensor in sources),
                              output=output, channels=channels)

    def upsample(self, name: str, source: Tensor) -> Node:
        """Return twice the rows and columns."""
        channels, height, width = source.shape
        output = dataclasses.replace(source, name=name, shape=(channels, 2 * height, 2 * width))
        return Upsample(name=name, inputs=(source.name,), output=output)

    def max_pool(self, name: str, source: Tensor, window: Window) -> Node:
        """Return a maximum over windows."""
        output = Tensor(name=name, shape=(source.shape[0], *window.outputs()),
                        zero_point=source.zero_point)
        return MaxPool(name=name, inputs=(source.name,), output=output, kernel=window.kernel,
                       stride=window.stride, dilation=window.dilation, padding=window.padding)

    def average_pool(self, name: str, source: Tensor, window: Window) -> Node:
        """Return a mean over windows, without dilation."""
        zero_point = self.zero_point()
        taps = math.prod(window.kernel)
        spread = math.sqrt(taps * (74**2 + source.zero_point**2))
        output = Tensor(name=name, shape=(source.shape[0], *window.outputs()),
                        zero_point=zero_point)
        return AveragePool(
            name=name, inputs=(source.name,), output=output, kernel=window.kernel,
            stride=window.stride, padding=window.padding,
            requantization=self._requantization(np.full(source.shape[0], spread), zero_point,
                                                per_channel=self.rng.random() < 0.5))

    def _weights(
        self, shape: tuple[int, ...], source: Tensor
    ) -> tuple[NDArray[np.int8], NDArray[np.int32], NDArray[np.float64]]:
        """Return weights of `shape`, output channels first; biases; the sums' rough spread."""
        rng, channels = self.rng, shape[0]
        # Small weights make ties frequent, and up to 7 they are packed as int4.
        largest = int(rng.choice([1, 3, NARROW_WEIGHT_MAX, 20, WEIGHT_MAX]))
        weight = rng.integers(-largest, largest + 1, shape)
        energy = np.square(weight.astype(np.float64)).reshape(channels, -1).sum(axis=1)
        spread = np.sqrt(np.maximum(energy, 1) * (74**2 + source.zero_point**2))
        bias = np.rint(rng.normal(0, 0.5, channels) * spread).astype(np.int64)
        huge = rng.random(channels) < 0.03
        bias[huge] = rng.integers(-(1 << 30), 1 << 30, int(huge.sum()))
        return weight.astype(np.int8), bias.astype(np.int32), spread

    def _requantization(
        self, spread: NDArray[np.float64], zero_point: int, *, per_channel: bool = True
    ) -> Requantization:
        """Return scales that bring sums of this spread to about the int8 range, or beyond it."""
        rng, bits = self.rng, self.multiplier_bits
        count = len(spread) if per_channel else 1
        scale = np.exp(rng.uniform(math.log(15), math.log(150), count)) / spread[:count]
        if self.rounding is Rounding.GEMMLOWP:
            multiplier = rng.integers(1 << (bits - 1), 1 << bits, count)
        else:
            multiplier = rng.integers(1, 1 << rng.integers(1, bits + 1, count), count)
        power = rng.random(count) < 0.4  # ties need powers of two
        multiplier[power] = 1 << np.log2(multiplier[power]).astype(np.int64)
        least = bits if self.rounding is Rounding.GEMMLOWP else 0
        shift = np.clip(np.rint(np.log2(multiplier / scale)), least, MAX_SHIFT).astype(np.int64)
        low, high = self._clip_range(zero_point)
        return Requantization(
            multiplier=np.broadcast_to(multiplier, len(spread)).copy(),
            shift=np.broadcast_to(shift, len(spread)).copy(), rounding=self.rounding,
            zero_point=zero_point, clip_min=low, clip_max=high)

    def add(self, name: str, first: Tensor, second: Tensor) -> Node:
        """Return a sum of two scaled tensors."""
        rng = self.rng
        largest = int(rng.choice([1, 4, 255]))
        multipliers = [int(value) for value in rng.integers(1, largest + 1, 2)]
        if rng.random() < 0.2:
            multipliers[int(rng.integers(2))] *= -1
        if rng.random() < 0.05:
            multipliers[0] = -256
        gain = math.log2(abs(multipliers[0]) + abs(multipliers[1]))
        shift = max(0, round(gain + rng.uniform(-1.5, 1)))
        rounding = self.rounding if rng.random() < 0.85 else Rounding(int(rng.integers(3)))
        zero_point = self.zero_point()
        low, high = self._clip_range(zero_point)
        offset = -(first.zero_point * multipliers[0] + second.zero_point * multipliers[1])
        output = Tensor(name=name, shape=first.shape, zero_point=zero_point)
        return Add(name=name, inputs=(first.name, second.name), output=output,
                   multipliers=(multipliers[0], multipliers[1]), offset=offset, shift=shift,
                   rounding=rounding, clip_min=low, clip_max=high)

    def lookup(self, name: str, source: Tensor) -> Node:
        """Return a table of any entries."""
        output = Tensor(name=name, shape=source.shape, zero_point=self.zero_point())
        table = self.rng.integers(INT8_MIN, INT8_MAX + 1, 256, np.int8)
        return Lookup(name=name, inputs=(source.name,), output=output, table=table)

    def clip(self, name: str, source: Tensor) -> Node:
        """Return bounds of any width."""
        low, high = self._clip_range(source.zero_point) if self.mild else self._bounds()
        output = Tensor(name=name, shape=source.shape, zero_point=source.zero_point)
        return Clip(name=name, inputs=(source.name,), output=output, clip_min=low, clip_max=high)

    def zero_point(self) -> int:
        """Return a zero point."""
        low, high = (-MILD_ZERO_POINT, MILD_ZERO_POINT) if self.mild else (INT8_MIN, INT8_MAX)
        return int(self.rng.integers(low, high + 1)) if self.rng.random() < 0.6 else 0

    def _clip_range(self, zero_point: int) -> tuple[int, int]:
        """Return no clip, a ReLU's or any other."""
        choice = self.rng.random()
        if choice < 0.5:
            return INT8_MIN, INT8_MAX
        if choice < 0.8 or self.mild:
            return zero_point, INT8_MAX
        return self._bounds()

    def _bounds(self) -> tuple[int, int]:
        low, high = sorted(int(bound) for bound in self.rng.integers(INT8_MIN, INT8_MAX + 1, 2))
        return low, high

