"""Random one- to three-node integer graphs that reach the corners of the contract.

Kernels 1-7, strides 1-3, dilations 1-2, padding 0-3 on each side, weights of 8 and of 4 bits, any
zero points, per-channel scales that saturate and tie, biases, clip ranges and the three rounding
modes. The work is about uniform on a logarithmic scale, so most layers are small.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pliant.compiler.graph import Graph, Node, Padding, Shape, Tensor
from pliant.spec.numerics import INT8_MAX, INT8_MIN
from pliant.spec.sampling import Offsets, Sampling
from pliant_models.random_nodes import RandomNodes, Window

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

DEFORMABLE_KINDS = ("deformable", "deformable_learned", "deformable_depthwise",
                    "deformable_add_other")
"""Likewise."""

DISPLACED_KINDS = ("displaced", "displaced_learned", "displaced_lookup", "displaced_upsample",
                   "displaced_add_other", "displaced_pointwise")
"""Likewise: depthwise layers that read nearest pixels."""

MAX_DEFORMABLE_WORK = 2e6
"""The same for deformable layers, whose references take longer."""

MAX_DEFORMABLE_KERNEL = 4
"""Offsets of larger ones do not fit the small configurations."""

MAX_CHANNELS = 70
"""Of inputs, unless it is said otherwise."""

Drawn = TypeVar("Drawn")


def random_layer(
    seed: int, *, multiplier_bits: int, max_size: int = 30, max_channels: int = MAX_CHANNELS,
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
        One of KINDS, EXTRA_KINDS, DEFORMABLE_KINDS or DISPLACED_KINDS; drawn from KINDS if not
        given.
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


class _Builder:
    """Draws the nodes of one graph. A method for each kind returns nodes and further inputs."""

    def __init__(
        self, rng: Generator, multiplier_bits: int, max_size: int, max_channels: int
    ) -> None:
        self.rng = rng
        self.nodes = RandomNodes(rng, multiplier_bits)
        self.max_size = max_size
        self.max_channels = max_channels
        self.input = Tensor(name="x", shape=(1, 1, 1))

    def convolution(self) -> tuple[list[Node], list[Tensor]]:
        channels = self._channels()
        window = self._near_target(self._window, lambda window: window.work() * channels)
        source = self._as_input(window.shape)
        return [self.nodes.convolution("conv", source, channels, window)], []

    def depthwise(self) -> tuple[list[Node], list[Tensor]]:
        window = self._near_target(lambda: self._window(dilations=(1, 1, 2, 3)), Window.work)
        return [self.nodes.depthwise("depthwise", self._as_input(window.shape), window)], []

    def depthwise_add_input(self) -> tuple[list[Node], list[Tensor]]:
        window = self._near_target(self._same_window, Window.work)
        source = self._as_input(window.shape)
        conv = self.nodes.depthwise("depthwise", source, window)
        return [conv, self.nodes.add("add", *self._shuffled(conv.output, source))], []

    def depthwise_lookup(self) -> tuple[list[Node], list[Tensor]]:
        (conv,), _ = self.depthwise()
        return [conv, self.nodes.lookup("lookup", conv.output)], []

    def depthwise_clip(self) -> tuple[list[Node], list[Tensor]]:
        (conv,), _ = self.depthwise()
        return [conv, self.nodes.clip("clip", conv.output)], []

    def deformable(self) -> tuple[list[Node], list[Tensor]]:
        channels = self._channels()
        window = self._deformable_window(lambda window: window.work() * channels)
        sampling = self.nodes.sampling(window.kernel)
        others = self.nodes.displacements(sampling, window)
        return [self._deformable(window, sampling, others, channels)], others

    def deformable_depthwise(self) -> tuple[list[Node], list[Tensor]]:
        window = self._deformable_window(Window.work)
        sampling = self.nodes.sampling(window.kernel)
        others = self.nodes.displacements(sampling, window)
        source = self._as_input(window.shape)
        return [self.nodes.deformable("deformable", source, others, sampling, source.shape[0],
                                      source.shape[0], window)], others

    def deformable_learned(self) -> tuple[list[Node], list[Tensor]]:
        """Offsets that the network computes, of one value per pixel or a pair per tap."""
        channels = self._channels()
        window = self._deformable_window(lambda window: window.work() * channels)
        while True:
            sampling = self.nodes.sampling(window.kernel)
            if sampling.offsets is not Offsets.MODULATED:
                break
        [offsets] = self.nodes.displacements(sampling, window)
        learned = self._learned(self._as_input(window.shape), window, offsets)
        return [learned, self._deformable(window, sampling, [offsets], channels)], []

    def _learned(self, source: Tensor, window: Window, offsets: Tensor) -> Node:
        """Return the convolution that computes offsets, whose zero point is 0."""
        node = self.nodes.convolution("learned", source, offsets.shape[0], window)
        return dataclasses.replace(node, output=offsets, requantization=dataclasses.replace(
            node.requantization, zero_point=0))

    def deformable_add_other(self) -> tuple[list[Node], list[Tensor]]:
        (conv,), others = self.deformable()
        other = Tensor(name="y", shape=conv.output.shape, zero_point=self.nodes.zero_point())
        return [conv, self.nodes.add("add", *self._shuffled(conv.output, other))], [*others, other]

    def displaced(self) -> tuple[list[Node], list[Tensor]]:
        window, sampling = self._displaced_window()
        offsets = self.nodes.displacements(sampling, window)
        return [self._displaced(self._as_input(window.shape), window, sampling, offsets)], offsets

    def displaced_learned(self) -> tuple[list[Node], list[Tensor]]:
        """Offsets that the network computes, for what one more layer computes of the same tensor.

        So source and offsets are on chip where they fit.
        """
        window, sampling = self._displaced_window()
        [offsets] = self.nodes.displacements(sampling, window)
        features = self.nodes.lookup("features", self._as_input(window.shape))
        learned = self._learned(features.output, window, offsets)
        return [features, learned,
                self._displaced(features.output, window, sampling, [offsets])], []

    def displaced_lookup(self) -> tuple[list[Node], list[Tensor]]:
        (node,), others = self.displaced()
        return [node, self.nodes.lookup("lookup", node.output)], others

    def displaced_upsample(self) -> tuple[list[Node], list[Tensor]]:
        nodes, others = self.displaced() if self.rng.random() < 0.5 else self.displaced_lookup()
        return [*nodes, self.nodes.upsample("upsample", nodes[-1].output)], others

    def displaced_add_other(self) -> tuple[list[Node], list[Tensor]]:
        (node,), others = self.displaced()
        other = Tensor(name="y", shape=node.output.shape, zero_point=self.nodes.zero_point())
        return [node, self.nodes.add("add", *self._shuffled(node.output, other))], [*others, other]

    def displaced_pointwise(self) -> tuple[list[Node], list[Tensor]]:
        """Between two layers of the matrix unit, of which the last can run beside it."""
        window, sampling = self._displaced_window()
        others = self.nodes.displacements(sampling, window)
        inner = Window((self._channels(), *window.shape[1:]), (1, 1), (1, 1), (1, 1), Padding())
        first = self.nodes.convolution("first", self._as_input(inner.shape), window.shape[0], inner)
        node = self._displaced(first.output, window, sampling, others)
        outer = Window(node.output.shape, (1, 1), (1, 1), (1, 1), Padding())
        last = self.nodes.convolution("last", node.output, self._channels(), outer)
        return [first, node, last], others

    def _displaced(
        self, source: Tensor, window: Window, sampling: Sampling, offsets: list[Tensor]
    ) -> Node:
        channels = source.shape[0]
        return self.nodes.deformable(
            "displaced", source, offsets, sampling, channels, channels, window)

    def _displaced_window(self) -> tuple[Window, Sampling]:
        window = self._deformable_window(Window.work)
        while True:
            sampling = self.nodes.sampling(window.kernel)
            if sampling.offsets is not Offsets.MODULATED:
                return window, dataclasses.replace(sampling, interpolate=False)

    def _deformable(
        self, window: Window, sampling: Sampling, others: list[Tensor], channels: int
    ) -> Node:
        source = self._as_input(window.shape)
        groups = math.gcd(channels, source.shape[0]) if self.rng.random() < 0.3 else 1
        return self.nodes.deformable("deformable", source, others, sampling, channels, groups,
                                     window)

    def _deformable_window(self, work: Callable[[Window], int]) -> Window:
        def draw() -> Window:
            while True:
                window = self._window()
                if max(window.kernel) <= MAX_DEFORMABLE_KERNEL:
                    return window

        return self._near_target(draw, work, MAX_DEFORMABLE_WORK)

    def linear(self) -> tuple[list[Node], list[Tensor]]:
        def draw() -> Window:
            height, width = (int(size) for size in self.rng.integers(1, 8, 2))
            return Window((self._channels(), height, width), (height, width), (1, 1), (1, 1),
                          Padding())

        channels = self._channels()
        window = self._near_target(draw, lambda window: window.work() * channels)
        source = self._as_input(window.shape)
        return [self.nodes.convolution("linear", source, channels, window)], []

    def convolution_add_input(self) -> tuple[list[Node], list[Tensor]]:
        window = self._near_target(self._same_window,
                                   lambda window: window.work() * window.shape[0])
        source = self._as_input(window.shape)
        conv = self.nodes.convolution("conv", source, window.shape[0], window)
        operands = self._shuffled(conv.output, source)
        return [conv, self.nodes.add("add", *operands)], []

    def convolution_add_other(self) -> tuple[list[Node], list[Tensor]]:
        (conv,), _ = self.convolution()
        other = Tensor(name="y", shape=conv.output.shape, zero_point=self.nodes.zero_point())
        return [conv, self.nodes.add("add", *self._shuffled(conv.output, other))], [other]

    def branches(self) -> tuple[list[Node], list[Tensor]]:
        channels = self._channels()
        window = self._near_target(self._window, lambda window: window.work() * channels)
        source = self._as_input(window.shape)
        first = self.nodes.convolution("first", source, channels, window)
        second = self.nodes.convolution("second", source, channels, window)
        operands = self._shuffled(first.output, second.output)
        return [first, second, self.nodes.add("add", *operands)], []

    def convolution_lookup(self) -> tuple[list[Node], list[Tensor]]:
        (conv,), _ = self.convolution()
        return [conv, self.nodes.lookup("lookup", conv.output)], []

    def convolution_clip(self) -> tuple[list[Node], list[Tensor]]:
        (conv,), _ = self.convolution()
        return [conv, self.nodes.clip("clip", conv.output)], []

    def add(self) -> tuple[list[Node], list[Tensor]]:
        source = self._as_input(self._shape())
        other = Tensor(name="y", shape=source.shape, zero_point=self.nodes.zero_point())
        if self.rng.random() < 0.1:
            return [self.nodes.add("add", source, source)], []
        return [self.nodes.add("add", source, other)], [other]

    def max_pool(self) -> tuple[list[Node], list[Tensor]]:
        window = self._near_target(self._window, Window.work)
        return [self.nodes.max_pool("pool", self._as_input(window.shape), window)], []

    def average_pool(self) -> tuple[list[Node], list[Tensor]]:
        window = self._near_target(lambda: self._window(dilations=(1,)), Window.work)
        if self.rng.random() < 0.3:  # global
            window = Window(window.shape, window.shape[1:], (1, 1), (1, 1), Padding())
        return [self.nodes.average_pool("pool", self._as_input(window.shape), window)], []

    def lookup(self) -> tuple[list[Node], list[Tensor]]:
        return [self.nodes.lookup("lookup", self._as_input(self._shape()))], []

    def clip(self) -> tuple[list[Node], list[Tensor]]:
        return [self.nodes.clip("clip", self._as_input(self._shape()))], []

    def _as_input(self, shape: Shape) -> Tensor:
        self.input = Tensor(name="x", shape=shape, zero_point=self.nodes.zero_point())
        return self.input

    def _shuffled(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        return (first, second) if self.rng.random() < 0.5 else (second, first)

    def _channels(self) -> int:
        return int(self.rng.integers(1, self.max_channels + 1))

    def _size(self) -> int:
        return int(self.rng.integers(1, self.max_size + 1))

    def _shape(self) -> Shape:
        return self._channels(), self._size(), self._size()

    def _near_target(
        self, draw: Callable[[], Drawn], work: Callable[[Drawn], int], most: float = MAX_WORK
    ) -> Drawn:
        target = self.rng.uniform(math.log(10), math.log(most))
        drawn = [draw() for _ in range(CANDIDATES)]
        return min(drawn, key=lambda candidate: abs(math.log(work(candidate)) - target))

    def _window(self, dilations: tuple[int, ...] = (1, 1, 2)) -> Window:
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
            window = Window(self._shape(), (kernel[0], kernel[1]), (stride[0], stride[1]),
                            (dilation[0], dilation[1]), Padding(**dict(zip(
                                ("top", "left", "bottom", "right"), sides, strict=True))))
            if min(window.outputs()) >= 1:
                return window

    def _same_window(self) -> Window:
        """Return a window whose output is as large as its input."""
        rng = self.rng
        kernel = [int(size) for size in rng.integers(1, 5, 2)]
        dilation = [int(step) for step in rng.choice([1, 1, 2], 2)]
        top, left = (d * (k - 1) // 2 for k, d in zip(kernel, dilation, strict=True))
        padding = Padding(top=top, left=left, bottom=dilation[0] * (kernel[0] - 1) - top,
                          right=dilation[1] * (kernel[1] - 1) - left)
        return Window(self._shape(), (kernel[0], kernel[1]), (1, 1), (dilation[0], dilation[1]),
                      padding)
