"""Random one- to three-node integer graphs that reach the corners of the contract.

Kernels 1-7, strides 1-3, dilations 1-2, padding 0-3 on each side, any zero points, per-channel
scales that saturate and tie, biases, clip ranges and the three rounding modes. The work is about
uniform on a logarithmic scale, so most layers are small.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pliant.compiler.graph import (
    Add,
    AveragePool,
    Clip,
    Convolution,
    DepthwiseConvolution,
    Graph,
    Lookup,
    MaxPool,
    Node,
    Padding,
    Requantization,
    Shape,
    Tensor,
)
from pliant.compiler.reference import output_size
from pliant.spec.numerics import INT8_MAX, INT8_MIN, MAX_SHIFT, Rounding

MAX_WORK = 2e7
"""Multiply-accumulates (or window elements) that layers are steered to stay below."""

CANDIDATES = 32
"""Shapes drawn for each layer; the one whose work is nearest to a random target is taken."""

KINDS = {
    "convolution": 0.40, "linear": 0.08, "convolution_add_input": 0.08,
    "convolution_add_other": 0.06, "branches": 0.04, "convolution_lookup": 0.05,
    "convolution_clip": 0.03, "add": 0.06, "max_pool": 0.08, "average_pool": 0.08,
    "lookup": 0.02, "clip": 0.02,
}
"""Kinds of graphs and how often each is drawn."""

EXTRA_KINDS = ("depthwise", "depthwise_add_input", "depthwise_lookup", "depthwise_clip")
"""Kinds that are drawn only when asked for."""

Drawn = TypeVar("Drawn")


def random_layer(
    seed: int, *, multiplier_bits: int, max_size: int = 30, max_channels: int = 70,
    kind: str | None = None,
) -> Graph:
    """Return a random graph; equal arguments give equal graphs.

    Parameters
    ----------
    seed : int
        Names the layer: it is the graph's name, too.
    multiplier_bits : int
        That of the configuration: multipliers stay below ``2**multiplier_bits``.
    max_size, max_channels : int
        Largest height and width, and largest number of channels, of inputs.
    kind : str, optional
        One of KINDS or EXTRA_KINDS; drawn from KINDS if not given.
    """
    rng = np.random.default_rng((seed, multiplier_bits))
    if kind is None:
        kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    builder = _Builder(rng, multiplier_bits, max_size, max_channels)
    nodes, extra_inputs = getattr(builder, kind)()
    return Graph(
        name=f"{kind}_{seed}", inputs=(builder.input, *extra_inputs), nodes=tuple(nodes),
        outputs=(nodes[-1].output.name,), metadata={"kind": kind, "seed": str(seed)})


def random_inputs(graph: Graph, seed: int, *, images: int = 1) -> dict[str, NDArray[np.int8]]:
    """Return random int8 (images, channels, height, width) for each input, extremes frequent."""
    rng = np.random.default_rng(seed)
    values = {}
    for tensor in graph.inputs:
        shape = (images, *tensor.shape)
        value = rng.integers(INT8_MIN, INT8_MAX + 1, shape, np.int8)
        extreme = rng.choice(np.array([INT8_MIN, INT8_MAX], np.int8), shape)
        values[tensor.name] = np.where(rng.random(shape) < 0.05, extreme, value)
    return values


@dataclass(frozen=True)
class _Window:
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


class _Builder:
    """Draws the nodes of one graph. A method for each kind returns nodes and further inputs."""

    def __init__(
        self, rng: Generator, multiplier_bits: int, max_size: int, max_channels: int
    ) -> None:
        self.rng = rng
        self.multiplier_bits = multiplier_bits
        self.max_size = max_size
        self.max_channels = max_channels
        self.rounding = Rounding(int(rng.integers(3)))
        self.input = Tensor(name="x", shape=(1, 1, 1))

    def convolution(self) -> tuple[list[Node], list[Tensor]]:
        channels = self._channels()
        window = self._near_target(self._window, lambda window: window.work() * channels)
        return [self._convolution("conv", self._as_input(window.shape), channels, window)], []

    def depthwise(self) -> tuple[list[Node], list[Tensor]]:
        window = self._near_target(lambda: self._window(dilations=(1, 1, 2, 3)), _Window.work)
        return [self._depthwise("depthwise", self._as_input(window.shape), window)], []

    def depthwise_add_input(self) -> tuple[list[Node], list[Tensor]]:
        window = self._near_target(self._same_window, _Window.work)
        source = self._as_input(window.shape)
        conv = self._depthwise("depthwise", source, window)
        return [conv, self._add("add", *self._shuffled(conv.output, source))], []

    def depthwise_lookup(self) -> tuple[list[Node], list[Tensor]]:
        (conv,), _ = self.depthwise()
        return [conv, self._lookup("lookup", conv.output)], []

    def depthwise_clip(self) -> tuple[list[Node], list[Tensor]]:
        (conv,), _ = self.depthwise()
        return [conv, self._clip("clip", conv.output)], []

    def linear(self) -> tuple[list[Node], list[Tensor]]:
        def draw() -> _Window:
            height, width = (int(size) for size in self.rng.integers(1, 8, 2))
            return _Window((self._channels(), height, width), (height, width), (1, 1), (1, 1),
                           Padding())

        channels = self._channels()
        window = self._near_target(draw, lambda window: window.work() * channels)
        return [self._convolution("linear", self._as_input(window.shape), channels, window)], []

    def convolution_add_input(self) -> tuple[list[Node], list[Tensor]]:
        window = self._near_target(self._same_window,
                                   lambda window: window.work() * window.shape[0])
        source = self._as_input(window.shape)
        conv = self._convolution("conv", source, window.shape[0], window)
        operands = self._shuffled(conv.output, source)
        return [conv, self._add("add", *operands)], []

    def convolution_add_other(self) -> tuple[list[Node], list[Tensor]]:
        (conv,), _ = self.convolution()
        other = Tensor(name="y", shape=conv.output.shape, zero_point=self._zero_point())
        return [conv, self._add("add", *self._shuffled(conv.output, other))], [other]

    def branches(self) -> tuple[list[Node], list[Tensor]]:
        channels = self._channels()
        window = self._near_target(self._window, lambda window: window.work() * channels)
        source = self._as_input(window.shape)
        first = self._convolution("first", source, channels, window)
        second = self._convolution("second", source, channels, window)
        return [first, second, self._add("add", *self._shuffled(first.output, second.output))], []

    def convolution_lookup(self) -> tuple[list[Node], list[Tensor]]:
        (conv,), _ = self.convolution()
        return [conv, self._lookup("lookup", conv.output)], []

    def convolution_clip(self) -> tuple[list[Node], list[Tensor]]:
        (conv,), _ = self.convolution()
        return [conv, self._clip("clip", conv.output)], []

    def add(self) -> tuple[list[Node], list[Tensor]]:
        source = self._as_input(self._shape())
        other = Tensor(name="y", shape=source.shape, zero_point=self._zero_point())
        if self.rng.random() < 0.1:
            return [self._add("add", source, source)], []
        return [self._add("add", source, other)], [other]

    def max_pool(self) -> tuple[list[Node], list[Tensor]]:
        window = self._near_target(self._window, _Window.work)
        source = self._as_input(window.shape)
        output = Tensor(name="pool", shape=(source.shape[0], *window.outputs()),
                        zero_point=source.zero_point)
        return [MaxPool(name="pool", inputs=(source.name,), output=output, kernel=window.kernel,
                        stride=window.stride, dilation=window.dilation,
                        padding=window.padding)], []

    def average_pool(self) -> tuple[list[Node], list[Tensor]]:
        window = self._near_target(lambda: self._window(dilations=(1,)), _Window.work)
        if self.rng.random() < 0.3:  # global
            window = _Window(window.shape, window.shape[1:], (1, 1), (1, 1), Padding())
        source, zero_point = self._as_input(window.shape), self._zero_point()
        taps = math.prod(window.kernel)
        spread = math.sqrt(taps * (74**2 + source.zero_point**2))
        output = Tensor(name="pool", shape=(source.shape[0], *window.outputs()),
                        zero_point=zero_point)
        return [AveragePool(
            name="pool", inputs=(source.name,), output=output, kernel=window.kernel,
            stride=window.stride, padding=window.padding,
            requantization=self._requantization(np.full(source.shape[0], spread), zero_point,
                                                per_channel=self.rng.random() < 0.5))], []

    def lookup(self) -> tuple[list[Node], list[Tensor]]:
        return [self._lookup("lookup", self._as_input(self._shape()))], []

    def clip(self) -> tuple[list[Node], list[Tensor]]:
        return [self._clip("clip", self._as_input(self._shape()))], []

    def _convolution(self, name: str, source: Tensor, channels: int, window: _Window) -> Node:
        weight, bias, spread = self._weights((channels, source.shape[0], *window.kernel), source)
        zero_point = self._zero_point()
        output = Tensor(name=name, shape=(channels, *window.outputs()), zero_point=zero_point)
        return Convolution(
            name=name, inputs=(source.name,), output=output, weight=weight, bias=bias,
            requantization=self._requantization(spread, zero_point), stride=window.stride,
            dilation=window.dilation, padding=window.padding)

    def _depthwise(self, name: str, source: Tensor, window: _Window) -> Node:
        weight, bias, spread = self._weights((source.shape[0], *window.kernel), source)
        zero_point = self._zero_point()
        output = Tensor(name=name, shape=(source.shape[0], *window.outputs()),
                        zero_point=zero_point)
        return DepthwiseConvolution(
            name=name, inputs=(source.name,), output=output, weight=weight, bias=bias,
            requantization=self._requantization(spread, zero_point), stride=window.stride,
            dilation=window.dilation, padding=window.padding)

    def _weights(
        self, shape: tuple[int, ...], source: Tensor
    ) -> tuple[NDArray[np.int8], NDArray[np.int32], NDArray[np.float64]]:
        """Return weights of `shape`, output channels first; biases; the sums' rough spread."""
        rng, channels = self.rng, shape[0]
        largest = int(rng.choice([1, 3, 20, 127]))  # small weights make ties frequent
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

    def _add(self, name: str, first: Tensor, second: Tensor) -> Node:
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
        zero_point = self._zero_point()
        low, high = self._clip_range(zero_point)
        offset = -(first.zero_point * multipliers[0] + second.zero_point * multipliers[1])
        output = Tensor(name=name, shape=first.shape, zero_point=zero_point)
        return Add(name=name, inputs=(first.name, second.name), output=output,
                   multipliers=(multipliers[0], multipliers[1]), offset=offset, shift=shift,
                   rounding=rounding, clip_min=low, clip_max=high)

    def _lookup(self, name: str, source: Tensor) -> Node:
        output = Tensor(name=name, shape=source.shape, zero_point=self._zero_point())
        table = self.rng.integers(INT8_MIN, INT8_MAX + 1, 256, np.int8)
        return Lookup(name=name, inputs=(source.name,), output=output, table=table)

    def _clip(self, name: str, source: Tensor) -> Node:
        low, high = sorted(int(bound) for bound in self.rng.integers(INT8_MIN, INT8_MAX + 1, 2))
        output = Tensor(name=name, shape=source.shape, zero_point=source.zero_point)
        return Clip(name=name, inputs=(source.name,), output=output, clip_min=low, clip_max=high)

    def _as_input(self, shape: Shape) -> Tensor:
        self.input = Tensor(name="x", shape=shape, zero_point=self._zero_point())
        return self.input

    def _shuffled(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        return (first, second) if self.rng.random() < 0.5 else (second, first)

    def _zero_point(self) -> int:
        return int(self.rng.integers(INT8_MIN, INT8_MAX + 1)) if self.rng.random() < 0.6 else 0

    def _clip_range(self, zero_point: int) -> tuple[int, int]:
        """Return no clip, a ReLU's or any other."""
        choice = self.rng.random()
        if choice < 0.5:
            return INT8_MIN, INT8_MAX
        if choice < 0.8:
            return zero_point, INT8_MAX
        low, high = sorted(int(bound) for bound in self.rng.integers(INT8_MIN, INT8_MAX + 1, 2))
        return low, high

    def _channels(self) -> int:
        return int(self.rng.integers(1, self.max_channels + 1))

    def _size(self) -> int:
        return int(self.rng.integers(1, self.max_size + 1))

    def _shape(self) -> Shape:
        return self._channels(), self._size(), self._size()

    def _near_target(self, draw: Callable[[], Drawn], work: Callable[[Drawn], int]) -> Drawn:
        target = self.rng.uniform(math.log(10), math.log(MAX_WORK))
        drawn = [draw() for _ in range(CANDIDATES)]
        return min(drawn, key=lambda candidate: abs(math.log(work(candidate)) - target))

    def _window(self, dilations: tuple[int, ...] = (1, 1, 2)) -> _Window:
        rng = self.rng
        while True:
            kernel = [int(size) for size in rng.integers(1, 8, 2)]
            stride = [int(step) for step in rng.choice([1, 1, 1, 2, 2, 3], 2)]
            dilation = [int(step) for step in rng.choice(dilations, 2)]
            sides = [int(side) for side in rng.integers(0, 4, 4)]
            if rng.random() < 0.5:  # as most networks have it
                kernel[1], stride[1], dilation[1] = kernel[0], stride[0], dilation[0]
                sides = sides[:1] * 4
            if rng.random() < 0.2:
                sides = [0, 0, 0, 0]
            window = _Window(self._shape(), (kernel[0], kernel[1]), (stride[0], stride[1]),
                             (dilation[0], dilation[1]), Padding(**dict(zip(
                                 ("top", "left", "bottom", "right"), sides, strict=True))))
            if min(window.outputs()) >= 1:
                return window

    def _same_window(self) -> _Window:
        """Return a window whose output is as large as its input."""
        rng = self.rng
        kernel = [int(size) for size in rng.integers(1, 5, 2)]
        dilation = [int(step) for step in rng.choice([1, 1, 2], 2)]
        top, left = (d * (k - 1) // 2 for k, d in zip(kernel, dilation, strict=True))
        padding = Padding(top=top, left=left, bottom=dilation[0] * (kernel[0] - 1) - top,
                          right=dilation[1] * (kernel[1] - 1) - left)
        return _Window(self._shape(), (kernel[0], kernel[1]), (1, 1), (dilation[0], dilation[1]),
                       padding)
