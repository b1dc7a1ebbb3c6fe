"""Random integer networks of several layers: what overlaps, stays on chip and is read again.

Blocks of convolutional networks (inverted residuals, pools, branches, tables) are strung together;
now and then one reads an older tensor, and tensors in between are outputs, too. Sizes are odd as
often as even, and channels seldom fill the lanes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pliant.compiler.graph import Convolution, Graph, Node, Padding, Tensor
from pliant_models.random_nodes import RandomNodes, Window

BLOCKS = {
    "separable": 0.2, "inverted": 0.2, "pool": 0.12, "pointwise": 0.12, "convolution": 0.12,
    "depthwise": 0.08, "branches": 0.06, "join": 0.05, "lookup": 0.05,
}
"""Blocks of layers and how often each is drawn."""

SELECTING = {
    "shuffle": 0.25, "select": 0.15, "grouped": 0.12, "enlarge": 0.12, "separable": 0.1,
    "pool": 0.08, "pointwise": 0.06, "branches": 0.06, "lookup": 0.03, "join": 0.03,
}
"""The same with split, concatenation and shuffle of channels, groups and upsampling."""

MAX_PIXELS = 400
"""Pixels that are still upsampled."""

TALL = 5
"""Times that some inputs are taller than wide: their tensors do not stay on chip whole."""

MAX_MEAN = 200
"""Pixels of a mean over a whole tensor, which must fit the feature buffer at once."""

MAX_WORK = 3e5
"""Multiply-accumulates of a dense 3x3 convolution, above which it gets fewer channels."""


def random_network(
    seed: int, *, multiplier_bits: int, blocks: int = 4, max_size: int = 17, max_channels: int = 26,
    kinds: Mapping[str, float] = BLOCKS,
) -> Graph:
    """Return a random network; equal arguments give equal graphs.

    Parameters
    ----------
    seed : int
        Names the network: it is the graph's name, too.
    multiplier_bits : int
        That of the configuration: multipliers stay below ``2**multiplier_bits``.
    blocks : int
        Blocks of one to four layers.
    max_size, max_channels : int
        Largest height and width of the input but for tall ones, and largest number of channels
        anywhere (of an expanded tensor: three times that).
    kinds : mapping of str to float
        Blocks to draw from, and how often each is drawn.
    """
    rng = np.random.default_rng((seed, multiplier_bits, blocks))
    builder = _Builder(rng, multiplier_bits, max_size, max_channels)
    names = [str(name) for name in rng.choice(list(kinds), blocks, p=list(kinds.values()))]
    for name in names:
        builder.value = getattr(builder, name)(builder.source())
    return Graph(
        name=f"network_{seed}", inputs=(builder.input,), nodes=tuple(builder.made),
        outputs=builder.outputs(), metadata={"blocks": " ".join(names), "seed": str(seed)})


class _Builder:
    """Appends blocks; a method for each appends nodes and returns its result."""

    def __init__(
        self, rng: Generator, multiplier_bits: int, max_size: int, max_channels: int
    ) -> None:
        self.rng = rng
        self.nodes = RandomNodes(rng, multiplier_bits, mild=True)
        self.max_channels = max_channels
        height, width = (int(size) for size in rng.integers(3, max_size + 1, 2))
        if rng.random() < 0.35:
            height, width = TALL * height, max(3, width // 2)
        self.input = Tensor(name="x", shape=(self._channels(), height, width),
                            zero_point=self.nodes.zero_point())
        self.value = self.input
        self.made: list[Node] = []

    def source(self) -> Tensor:
        """Return the latest result or, seldom, an older one."""
        if self.made and self.rng.random() < 0.12:
            return self.made[int(self.rng.integers(len(self.made)))].output
        return self.value

    def outputs(self) -> tuple[str, ...]:
        """Return all results that nothing reads, and some others."""
        read = {name for node in self.made for name in node.inputs}
        return tuple(node.output.name for node in self.made
                     if node.output.name not in read or self.rng.random() < 0.06)

    def convolution(self, source: Tensor) -> Tensor:
        stride = int(self.rng.choice([1, 1, 2]))
        kernel = int(self.rng.choice([2, 3, 3, 5]))
        return self._dense(source, self._window(source, kernel, stride))

    def pointwise(self, source: Tensor) -> Tensor:
        """A 1x1 convolution; now and then with a stride or padding."""
        stride = int(self.rng.choice([1, 1, 1, 2]))
        top, left, bottom, right = (int(side) for side in self.rng.random(4) < 0.1)
        padding = Padding(top=top, left=left, bottom=bottom, right=right)
        return self._dense(source, Window(source.shape, (1, 1), (stride, stride), (1, 1), padding))

    def depthwise(self, source: Tensor) -> Tensor:
        kernel = int(self.rng.choice([3, 3, 5]))
        dilation = int(self.rng.choice([1, 1, 1, 2]))
        window = self._window(source, kernel, int(self.rng.choice([1, 1, 2])), dilation)
        return self._append(self.nodes.depthwise(self._name("depthwise"), source, window))

    def lookup(self, source: Tensor) -> Tensor:
        return self._append(self.nodes.lookup(self._name("lookup"), source))

    def separable(self, source: Tensor) -> Tensor:
        """Depthwise, sometimes a table, and pointwise; sometimes the input is added."""
        deep = self.depthwise(source)
        if self.rng.random() < 0.15:
            deep = self.lookup(deep)
        plain = _plain(deep)
        same = deep.shape == source.shape and self.rng.random() < 0.5
        value = self._dense(deep, plain, source.shape[0] if same else None)
        value = self._add(value, source) if same else value
        return self.lookup(value) if self.rng.random() < 0.15 else value

    def inverted(self, source: Tensor) -> Tensor:
        """Expand, depthwise, project, and the shortcut if shapes agree."""
        wide = min(source.shape[0] * int(self.rng.integers(2, 5)), 3 * self.max_channels)
        plain = _plain(source)
        deep = self.depthwise(self._dense(source, plain, wide))
        same = deep.shape[1:] == source.shape[1:]
        plain = _plain(deep)
        value = self._dense(deep, plain, source.shape[0] if same else None)
        return self._add(value, source) if same else value

    def pool(self, source: Tensor) -> Tensor:
        """A maximum or mean, and a pointwise convolution."""
        window = self._window(source, int(self.rng.choice([2, 3])), int(self.rng.choice([1, 2, 2])))
        if self.rng.random() < 0.5:
            pooled = self._append(self.nodes.max_pool(self._name("maximum"), source, window))
        else:
            if math.prod(source.shape[1:]) <= MAX_MEAN and self.rng.random() < 0.4:
                window = Window(source.shape, source.shape[1:], (1, 1), (1, 1), Padding())
            pooled = self._append(self.nodes.average_pool(self._name("mean"), source, window))
        return self._dense(pooled, _plain(pooled))

    def branches(self, source: Tensor) -> Tensor:
        """Two readers of a tensor, and their sum."""
        plain = _plain(source)
        first = self._dense(source, plain)
        second = self._dense(source, self._window(source, 3), first.shape[0])
        return self._add(first, second)

    def shuffle(self, source: Tensor) -> Tensor:
        """Units of ShuffleNetV2 (arXiv:1807.11164): half of the channels pass; shuffled after."""
        for _ in range(int(self.rng.integers(1, 4))):
            half = source.shape[0] // 2
            if not half:
                return source
            passed, worked = (self._select([source], np.stack(
                [np.zeros(stop - start, np.int64), np.arange(start, stop)], axis=1))
                for start, stop in ((0, half), (half, source.shape[0])))
            deep = self._dense(worked, _plain(worked), min(worked.shape[0], self.max_channels))
            deep = self._append(self.nodes.depthwise(
                self._name("depthwise"), deep, self._window(deep, 3)))
            branch = self._quantized_as(source, self.nodes.convolution(
                self._name("conv"), deep, half, _plain(deep)))
            source = self._select([passed, branch], np.stack(
                [np.tile([0, 1], half), np.arange(half).repeat(2)], axis=1))
        return source

    def select(self, source: Tensor) -> Tensor:
        """Any channels of the tensor and of two computed from it, some perhaps twice."""
        extent = _plain(source)
        parts = [source, *(self._quantized_as(source, self.nodes.convolution(
            self._name("conv"), source, self._channels(), extent)) for _ in range(2))]
        known = np.concatenate([np.stack([np.full(tensor.shape[0], index),
                                          np.arange(tensor.shape[0])], axis=1)
                                for index, tensor in enumerate(parts)])
        count = min(self._channels(), len(known))
        chosen = self.rng.choice(known, count, replace=self.rng.random() < 0.2)
        if self.rng.random() < 0.5:
            chosen = chosen[np.lexsort(chosen.T[::-1])]
        return self._select(parts, chosen.astype(np.int64))

    def grouped(self, source: Tensor) -> Tensor:
        """A convolution in groups, some with several outputs to an input."""
        groups = int(self.rng.choice([n for n in range(1, source.shape[0] + 1)
                                      if source.shape[0] % n == 0]))
        channels = groups * int(self.rng.integers(1, 3 + self.max_channels // (2 * groups)))
        window = self._window(source, int(self.rng.choice([1, 3])), int(self.rng.choice([1, 1, 2])))
        return self._append(self.nodes.convolution(
            self._name("grouped"), source, channels, window, groups))

    def enlarge(self, source: Tensor) -> Tensor:
        """Upsample a pointwise convolution or the tensor itself; a larger one is pooled before."""
        if math.prod(source.shape[1:]) > MAX_PIXELS:
            window = self._window(source, 3, 3)
            source = self._append(self.nodes.max_pool(self._name("maximum"), source, window))
        if self.rng.random() < 0.7:
            source = self._dense(source, _plain(source))
        return self._append(self.nodes.upsample(self._name("upsample"), source))

    def join(self, source: Tensor) -> Tensor:
        """Add any older tensor of the same shape, or the tensor itself."""
        known = [self.input, *(node.output for node in self.made)]
        equal = [tensor for tensor in known if tensor.shape == source.shape]
        return self._add(source, equal[int(self.rng.integers(len(equal)))])

    def _name(self, kind: str) -> str:
        return f"{kind}{len(self.made)}"

    def _append(self, node: Node) -> Tensor:
        self.made.append(node)
        return node.output

    def _dense(self, source: Tensor, window: Window, channels: int | None = None) -> Tensor:
        if channels is None:
            work = source.shape[0] * math.prod(window.kernel) * math.prod(window.outputs())
            channels = max(1, min(self._channels(), int(MAX_WORK / work)))
        node = self.nodes.convolution(self._name("conv"), source, channels, window)
        value = self._append(node)
        if self.rng.random() < 0.1:
            value = self._append(self.nodes.clip(self._name("clip"), value))
        return value

    def _select(self, sources: Sequence[Tensor], channels: NDArray[np.int64]) -> Tensor:
        return self._append(self.nodes.select(self._name("select"), sources, channels))

    def _quantized_as(self, tensor: Tensor, node: Convolution) -> Tensor:
        """Append a convolution with the zero point of `tensor`; return its result."""
        point = tensor.zero_point
        return self._append(dataclasses.replace(
            node, output=dataclasses.replace(node.output, zero_point=point),
            requantization=dataclasses.replace(node.requantization, zero_point=point)))

    def _add(self, first: Tensor, second: Tensor) -> Tensor:
        if self.rng.random() < 0.5:
            first, second = second, first
        return self._append(self.nodes.add(self._name("add"), first, second))

    def _channels(self) -> int:
        return int(self.rng.integers(1, self.max_channels + 1))

    def _window(
        self, source: Tensor, kernel: int, stride: int = 1, dilation: int = 1
    ) -> Window:
        """Return a window padded to keep the size (up to the stride); seldom lopsidedly."""
        span = dilation * (kernel - 1)
        before = span // 2
        if self.rng.random() < 0.15:
            before = int(self.rng.integers(span + 1))
        padding = Padding(top=before, left=before, bottom=span - before, right=span - before)
        return Window(source.shape, (kernel, kernel), (stride, stride), (dilation, dilation),
                      padding)


def _plain(source: Tensor) -> Window:
    """Return the window of a pointwise convolution."""
    return Window(source.shape, (1, 1), (1, 1), (1, 1), Padding())
