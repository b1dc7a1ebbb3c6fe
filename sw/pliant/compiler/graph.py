"""The integer graph: the reference of record between the model and the instructions.

A graph is a list of nodes in execution order. Every value is an int8 tensor (channels, height,
width) of one image; every node says to the last bit how its output follows from its inputs
(:mod:`pliant.compiler.reference` evaluates it). A fully connected layer is a convolution whose
kernel covers its input.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pliant.spec.numerics import INT8_MAX, INT8_MIN, Rounding
from pliant.spec.sampling import Sampling
from pliant.spec.unfolding import Unfolding

Shape = tuple[int, int, int]


class GraphError(ValueError):
    """A graph that breaks a rule; the message names the node."""


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A value: (channels, height, width) int8; real value ``(q - zero_point) * scale``.

    `unfolding` is set by the compiler on inputs that it wants arranged
    (:mod:`pliant.compiler.unfold`), `channels` on values whose channels it has moved
    (:mod:`pliant.compiler.arrange`): the place of each.
    """

    name: str
    shape: Shape
    scale: float = 1.0
    zero_point: int = 0
    unfolding: Unfolding | None = None
    channels: tuple[int, ...] | None = None

    @property
    def network_shape(self) -> Shape:
        """Shape without the channels that the compiler has put between."""
        count = self.shape[0] if self.channels is None else len(self.channels)
        return count, self.shape[1], self.shape[2]


@dataclass(frozen=True, kw_only=True, eq=False)
class Requantization:
    """From int32 sums to int8, see :func:`pliant.spec.numerics.requantize`.

    `multiplier` and `shift` are int64 arrays, one entry per output channel.
    """

    multiplier: NDArray[np.int64]
    shift: NDArray[np.int64]
    rounding: Rounding = Rounding.HALF_EVEN
    zero_point: int = 0
    clip_min: int = INT8_MIN
    clip_max: int = INT8_MAX


@dataclass(frozen=True, kw_only=True)
class Padding:
    """Zero-point pixels added around a tensor."""

    top: int = 0
    left: int = 0
    bottom: int = 0
    right: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """Base of all nodes: reads the values called `inputs`, defines `output`."""

    name: str
    inputs: tuple[str, ...]
    output: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Convolution(Node):
    """2-D convolution, dense or in groups of channels.

    ``acc = bias + sum(weight * (x - input zero point))``, padding contributing 0; then requantized.
    `weight` is int8 (out, in / groups, kernel height, kernel width) in -127..127, `bias` int32
    (out,).
    """

    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    requantization: Requantization
    groups: int = 1
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: Padding = Padding()


@dataclass(frozen=True, kw_only=True, eq=False)
class DepthwiseConvolution(Node):
    """2-D convolution of each channel with a kernel of its own.

    As Convolution, but output channel c reads input channel c alone: `weight` is int8 (channels,
    kernel height, kernel width) in -127..127, `bias` int32 (channels,).
    """

    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    requantization: Requantization
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: Padding = Padding()


@dataclass(frozen=True, kw_only=True, eq=False)
class DeformableConvolution(Node):
    """2-D convolution whose taps are displaced by offsets: :mod:`pliant.spec.sampling`.

    Reads features, offsets and, with Offsets.MODULATED, masks; offsets and masks have the size of
    the output, a zero point of 0 and of -128. Samples are int8 at the scale and zero point of the
    features; otherwise as Convolution. `weight` is int8 (out, in / groups, kernel height, kernel
    width) in -127..127; as many groups as channels make it depthwise.
    """

    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    requantization: Requantization
    sampling: Sampling
    groups: int = 1
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: Padding = Padding()


@dataclass(frozen=True, kw_only=True, eq=False)
class SelectChannels(Node):
    """Channels of one or several tensors of one size in any order: split, concat and shuffle.

    Output channel c is channel ``channels[c, 1]`` of input ``channels[c, 0]`` (int64, (out, 2)).
    Scale and zero point of all tensors are equal.
    """

    channels: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Upsample(Node):
    """Nearest neighbour, twice the rows and columns: every pixel becomes 2x2. Scale is kept."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Add(Node):
    """Weighted sum of two tensors of one shape.

    ``clip(round((a*multipliers[0] + b*multipliers[1] + offset) / 2**shift) + zero_point)``, see
    :func:`pliant.spec.numerics.add`; `multipliers` in -256..255, `offset` holds minus the zero
    points of the operands times their multipliers, `shift` 0..31; the zero point is the output's.
    """

    multipliers: tuple[int, int]
    offset: int
    shift: int
    rounding: Rounding = Rounding.HALF_EVEN
    clip_min: int = INT8_MIN
    clip_max: int = INT8_MAX


@dataclass(frozen=True, kw_only=True, eq=False)
class MaxPool(Node):
    """Maximum over windows; padding never wins. The output keeps scale and zero point."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)
    padding: Padding = Padding()


@dataclass(frozen=True, kw_only=True, eq=False)
class AveragePool(Node):
    """``requantize(sum of (x - input zero point))`` over windows, padding contributing 0.

    The division by the window's size is in the multiplier. Global pooling is a window as large as
    the input.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    requantization: Requantization
    padding: Padding = Padding()


@dataclass(frozen=True, kw_only=True, eq=False)
class Lookup(Node):
    """Any int8 to int8 pointwise function: ``table[x & 255]``; `table` is int8 (256,)."""

    table: NDArray[np.int8]


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip(Node):
    """``min(max(x, clip_min), clip_max)``: ReLU and ReLU6 on integers."""

    clip_min: int
    clip_max: int


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A network as integers: one `inputs` tensor each, nodes in order, names of the `outputs`."""

    name: str
    inputs: tuple[Tensor, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    metadata: dict[str, str] = field(default_factory=dict)

    def tensors(self) -> dict[str, Tensor]:
        """Return every value by name."""
        return {t.name: t for t in (*self.inputs, *(node.output for node in self.nodes))}

    def replace(self, **changes: object) -> Graph:
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]
