"""The compiler's own node: everything that one pass through matrix and post unit computes.

Every graph node lowers to one :class:`Operation`; fusing merges neighbours. The stages are those of
the Post instruction: window reduction, requantization and clip, residual add and clip, table,
upsampling.
"""

from __future__ import annotations

import enum
import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pliant.compiler.graph import Graph, Node, Padding, Requantization
from pliant.spec.memory import fit_narrow
from pliant.spec.numerics import INT8_MAX, INT8_MIN, Rounding
from pliant.spec.sampling import Offsets, Sampling

NO_PADDING = Padding()


class Reduction(enum.Enum):
    """What happens to the inputs in a window."""

    CONVOLUTION = "convolution"
    """All channels times weights, summed: matrix unit."""
    MAXIMUM = "maximum"
    """Channel by channel: post unit."""
    SUM = "sum"
    """Channel by channel: post unit."""
    DEPTHWISE = "depthwise"
    """Channel by channel, times weights: post unit, also where taps are displaced."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """Which inputs an output sees; `pad_value` stands for those outside the tensor."""

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: Padding = NO_PADDING
    pad_value: int = 0


@dataclass(frozen=True, kw_only=True)
class ResidualAdd:
    """``clip(round((value*multiplier + residual*residual_multiplier + offset) >> shift) + zp)``."""

    multiplier: int
    residual_multiplier: int
    offset: int
    shift: int
    rounding: Rounding
    zero_point: int
    clip_min: int = INT8_MIN
    clip_max: int = INT8_MAX


@dataclass(frozen=True, kw_only=True, eq=False)
class Operation(Node):
    """One layer as the machine sees it.

    ``inputs`` holds the tensors of the window, with `sampling` those of offsets and masks and, with
    `residual`, last the residual tensor. A Reduction.CONVOLUTION may read several tensors of one
    size: its input channels are theirs, one tensor after the other. Others read one, from lane
    group `first_group` on.

    `bias` is int64 (out,) and has the input's zero point folded in; `weight` is int8 (out, in,
    kernel height, kernel width) for Reduction.CONVOLUTION, (out, kernel height, kernel width) for
    Reduction.DEPTHWISE, (out, 4, 2, 2) if `phased`, else None; `table` is int8 (256,) or None.
    `layers` are the names of the graph nodes that it computes, `macs` their useful
    multiply-accumulates.
    """

    reduction: Reduction
    window: Window
    weight: NDArray[np.int8] | None
    bias: NDArray[np.int64]
    requantization: Requantization
    residual: ResidualAdd | None = None
    table: NDArray[np.int8] | None = None
    layers: tuple[str, ...]
    macs: int = 0
    first_group: int = 0
    sampling: Sampling | None = None
    upsample: bool = False
    """Every result becomes 2x2 pixels of the output, whose sides are thus even."""
    phased: bool = False
    """Each of the four is a result of its own, see :mod:`pliant.compiler.phases`."""

    @property
    def windows(self) -> tuple[str, ...]:
        """Names of the tensors that the window reads."""
        return self.inputs[:len(self.inputs) - self._displacing - (self.residual is not None)]

    @property
    def displaced(self) -> bool:
        """Whether the post unit displaces the taps of its windows."""
        return self.reduction is Reduction.DEPTHWISE and self.sampling is not None

    @property
    def displacements(self) -> tuple[str, ...]:
        """Names of the tensors that displace the window: of offsets, and of masks if there are."""
        first = len(self.windows)
        return self.inputs[first:first + self._displacing]

    @property
    def _displacing(self) -> int:
        if self.sampling is None:
            return 0
        return 2 if self.sampling.offsets is Offsets.MODULATED else 1

    @functools.cached_property
    def narrow_weights(self) -> bool:
        """Whether the matrix unit takes the weights as int4: all are in -7..7."""
        dense = self.reduction is Reduction.CONVOLUTION
        return dense and self.weight is not None and fit_narrow(self.weight)

    @property
    def kind(self) -> str:
        """Stages in words, for listings."""
        stages = ["deformable " * (self.sampling is not None) + self.reduction.value
                  + " int4" * self.narrow_weights]
        stages += ["add"] if self.residual else []
        stages += ["table"] if self.table is not None else []
        stages += ["phases"] if self.phased else ["upsample"] if self.upsample else []
        return "+".join(stages)


def operations(graph: Graph) -> tuple[Operation, ...]:
    """Return the nodes of a lowered graph."""
    for node in graph.nodes:
        assert isinstance(node, Operation), f"{node.name!r} is not lowered"
    return graph.nodes  # type: ignore[return-value]  # just asserted


def identity(channels: int, rounding: Rounding = Rounding.HALF_EVEN) -> Requantization:
    """Return the requantization that changes nothing."""
    assert rounding is not Rounding.GEMMLOWP, "it shifts by multiplier_bits first"
    return Requantization(multiplier=np.ones(channels, np.int64),
                          shift=np.zeros(channels, np.int64), rounding=rounding)


def consumers(graph: Graph) -> dict[str, int]:
    """Return how often each tensor is read; being an output of the graph counts as once."""
    counts = dict.fromkeys(graph.tensors(), 0)
    for name in [*graph.outputs, *(name for node in graph.nodes for name in node.inputs)]:
        counts[name] += 1
    return counts
