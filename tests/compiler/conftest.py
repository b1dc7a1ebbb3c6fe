"""Networks of several layers, for tests of the compiler."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pytest

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
    SelectChannels,
    Tensor,
    Upsample,
)
from pliant.spec.numerics import Rounding


class NetworkBuilder:
    """Appends layers with random integers; every method returns the tensor that it defines."""

    def __init__(self, seed: int, shape: tuple[int, int, int], multiplier_bits: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.multiplier_bits = multiplier_bits
        self.input = Tensor(name="x", shape=shape, zero_point=self._zero_point())
        self.nodes: list[Node] = []

    def _zero_point(self) -> int:
        return int(self.rng.integers(-20, 21))

    def _output(self, kind: str, shape: tuple[int, int, int], zero_point: int) -> Tensor:
        return Tensor(name=f"{kind}{len(self.nodes)}.out", shape=shape, zero_point=zero_point)

    def _append(self, node: Node) -> Tensor:
        self.nodes.append(node)
        return node.output

    def requantization(
        self, channels: int, spread: float, zero_point: int, rounding: Rounding
    ) -> Requantization:
        bits = self.multiplier_bits
        multiplier = self.rng.integers(1 << (bits - 1), 1 << bits, channels)
        shift = np.rint(np.log2(multiplier * spread / 50)).astype(np.int64)
        return Requantization(
            multiplier=multiplier.astype(np.int64), shift=np.maximum(shift, bits),
            rounding=rounding, zero_point=zero_point)

    def convolution(
        self, source: Tensor, channels: int, kernel: int = 3, stride: int = 1,
        padding: int | None = None, rounding: Rounding = Rounding.HALF_EVEN,
    ) -> Tensor:
        pad = kernel // 2 if padding is None else padding
        weight = self.rng.integers(-127, 128, (channels, source.shape[0], kernel, kernel), np.int8)
        height, width = ((size + 2 * pad - kernel) // stride + 1 for size in source.shape[1:])
        zero_point = self._zero_point()
        spread = 74.0 * 74 * np.sqrt(weight[0].size)
        return self._append(Convolution(
            name=f"conv{len(self.nodes)}", inputs=(source.name,),
            output=self._output("conv", (channels, height, width), zero_point), weight=weight,
            bias=self.rng.integers(-spread, spread, channels).astype(np.int32),
            requantization=self.requantization(channels, spread, zero_point, rounding),
            stride=(stride, stride), padding=Padding(top=pad, left=pad, bottom=pad, right=pad)))

    def depthwise(
        self, source: Tensor, kernel: int = 3, stride: int = 1, dilation: int = 1,
        rounding: Rounding = Rounding.HALF_EVEN,
    ) -> Tensor:
        pad = dilation * (kernel // 2)
        channels = source.shape[0]
        weight = self.rng.integers(-127, 128, (channels, kernel, kernel), np.int8)
        height, width = ((size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
                         for size in source.shape[1:])
        zero_point = self._zero_point()
        spread = 74.0 * 74 * kernel
        return self._append(DepthwiseConvolution(
            name=f"depthwise{len(self.nodes)}", inputs=(source.name,),
            output=self._output("depthwise", (channels, height, width), zero_point),
            weight=weight, bias=self.rng.integers(-spread, spread, channels).astype(np.int32),
            requantization=self.requantization(channels, spread, zero_point, rounding),
            stride=(stride, stride), dilation=(dilation, dilation),
            padding=Padding(top=pad, left=pad, bottom=pad, right=pad)))

    def add(
        self, first: Tensor, second: Tensor, rounding: Rounding = Rounding.HALF_EVEN
    ) -> Tensor:
        multipliers = tuple(int(value) for value in self.rng.integers(1, 256, 2))
        offset = -(first.zero_point * multipliers[0] + second.zero_point * multipliers[1])
        return self._append(Add(
            name=f"add{len(self.nodes)}", inputs=(first.name, second.name),
            output=self._output("add", first.shape, self._zero_point()),
            multipliers=(multipliers[0], multipliers[1]), offset=offset, shift=8,
            rounding=rounding))

    def relu(self, source: Tensor) -> Tensor:
        return self._append(Clip(
            name=f"relu{len(self.nodes)}", inputs=(source.name,),
            output=self._output("relu", source.shape, source.zero_point),
            clip_min=source.zero_point, clip_max=127))

    def lookup(self, source: Tensor) -> Tensor:
        return self._append(Lookup(
            name=f"lookup{len(self.nodes)}", inputs=(source.name,),
            output=self._output("lookup", source.shape, self._zero_point()),
            table=self.rng.permutation(np.arange(-128, 128)).astype(np.int8)))

    def select(self, sources: Sequence[Tensor], channels: Sequence[tuple[int, int]]) -> Tensor:
        """Channels (index of a source, channel); all sources get the first one's zero point."""
        first = sources[0]
        for source in sources[1:]:
            if source.zero_point != first.zero_point:
                self._requantize(source, first.zero_point)
        output = self._output("select", (len(channels), *first.shape[1:]), first.zero_point)
        return self._append(SelectChannels(
            name=f"select{len(self.nodes)}", inputs=tuple(source.name for source in sources),
            output=output, channels=np.array(channels, np.int64).reshape(-1, 2)))

    def _requantize(self, tensor: Tensor, zero_point: int) -> None:
        """Change the zero point of a convolution's result that nothing has read yet."""
        [index] = [i for i, node in enumerate(self.nodes) if node.output.name == tensor.name]
        node = self.nodes[index]
        assert isinstance(node, Convolution)
        self.nodes[index] = dataclasses.replace(
            node, output=dataclasses.replace(tensor, zero_point=zero_point),
            requantization=dataclasses.replace(node.requantization, zero_point=zero_point))

    def upsample(self, source: Tensor) -> Tensor:
        channels, height, width = source.shape
        return self._append(Upsample(
            name=f"upsample{len(self.nodes)}", inputs=(source.name,), output=self._output(
                "upsample", (channels, 2 * height, 2 * width), source.zero_point)))

    def max_pool(self, source: Tensor, kernel: int = 2, stride: int = 2) -> Tensor:
        height, width = ((size - kernel) // stride + 1 for size in source.shape[1:])
        return self._append(MaxPool(
            name=f"pool{len(self.nodes)}", inputs=(source.name,),
            output=self._output("pool", (source.shape[0], height, width), source.zero_point),
            kernel=(kernel, kernel), stride=(stride, stride)))

    def global_average(self, source: Tensor) -> Tensor:
        zero_point = self._zero_point()
        return self._append(AveragePool(
            name=f"mean{len(self.nodes)}", inputs=(source.name,),
            output=self._output("mean", (source.shape[0], 1, 1), zero_point),
            kernel=source.shape[1:], stride=(1, 1),
            requantization=self.requantization(
                source.shape[0], 74 * np.sqrt(source.shape[1] * source.shape[2]), zero_point,
                Rounding.HALF_EVEN)))

    def graph(self, *outputs: Tensor) -> Graph:
        return Graph(name="network", inputs=(self.input,), nodes=tuple(self.nodes),
                     outputs=tuple(tensor.name for tensor in outputs))


def residual_network(
    seed: int, multiplier_bits: int, *, channels: int = 12, size: int = 10,
    rounding: Rounding = Rounding.HALF_EVEN,
) -> Graph:
    """A stem, a residual block, a block with a strided shortcut, pools, a table, two outputs."""
    net = NetworkBuilder(seed, (3, size, size + 1), multiplier_bits)
    stem = net.relu(net.convolution(net.input, channels, rounding=rounding))
    inner = net.relu(net.convolution(stem, channels, rounding=rounding))
    inner = net.convolution(inner, channels, rounding=rounding)
    block = net.relu(net.add(inner, stem, rounding))
    pooled = net.max_pool(block)
    main = net.convolution(net.lookup(net.convolution(pooled, 2 * channels, stride=2)),
                           2 * channels, rounding=rounding)
    shortcut = net.convolution(pooled, 2 * channels, kernel=1, stride=2, rounding=rounding)
    joined = net.lookup(net.add(shortcut, main, rounding))
    mean = net.global_average(joined)
    return net.graph(net.convolution(mean, 10, kernel=1), joined)


def inverted_residuals(
    seed: int, multiplier_bits: int, *, channels: int = 12, size: int = 10,
    rounding: Rounding = Rounding.HALF_EVEN,
) -> Graph:
    """A stem and three blocks (1x1, depthwise, 1x1), the second with a shortcut; pool, classes."""
    net = NetworkBuilder(seed, (3, size, size + 1), multiplier_bits)
    value = net.relu(net.convolution(net.input, channels, rounding=rounding))
    for stride, dilation in ((2, 1), (1, 1), (1, 2)):
        wide = net.relu(net.convolution(value, 4 * channels, kernel=1, rounding=rounding))
        deep = net.relu(net.depthwise(wide, 3, stride, dilation, rounding=rounding))
        narrow = net.convolution(deep, channels, kernel=1, rounding=rounding)
        shortcut = stride == dilation == 1
        value = net.add(value, narrow, rounding) if shortcut else narrow
    mean = net.global_average(net.lookup(net.depthwise(value, 5, rounding=rounding)))
    return net.graph(net.convolution(mean, 10, kernel=1), value)


@pytest.fixture
def inverted() -> Callable[..., Graph]:
    return inverted_residuals


@pytest.fixture
def network() -> Callable[..., Graph]:
    return residual_network


@pytest.fixture
def builder() -> type[NetworkBuilder]:
    return NetworkBuilder
