"""Which inputs a range of outputs needs, and the sizes that tiling and emission work with."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

from pliant.compiler.graph import Shape
from pliant.compiler.operation import Operation, Reduction
from pliant.spec.config import AcceleratorConfig
from pliant.spec.memory import ceil_div, pass_words, patch_grid, round_up, row_patches, row_pitch


@dataclass(frozen=True)
class Span:
    """A range of outputs along one axis and the inputs that it reads.

    Outputs ``[start, stop)`` read tensor positions within ``[first, last)``, clipped to the tensor
    and, along x, widened to whole beats; `origin` is where output `start` begins to read, relative
    to `first`. `size` counts the inputs in ``[first, last)`` that the tensor really has.
    """

    start: int
    stop: int
    first: int
    last: int
    origin: int
    size: int

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return self.stop - self.start

    @property
    def inputs(self) -> int:
        """Number of inputs that are loaded."""
        return self.last - self.first


@dataclass(frozen=True)
class Axis:
    """One spatial axis of a window."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    dilation: int
    before: int
    align: int
    """Loads start and end at multiples of this (words of a beat along x, 1 along y)."""

    def span(self, start: int, stop: int) -> Span:
        """Return what outputs ``[start, stop)`` read."""
        low = start * self.stride - self.before
        high = (stop - 1) * self.stride - self.before + (self.kernel - 1) * self.dilation + 1
        # A range that sees nothing but padding still needs a region: of one pixel.
        first = min(max(low, 0), self.inputs - 1) // self.align * self.align
        last = max(min(high, self.inputs), first + 1)
        return Span(start, stop, first, round_up(last, self.align), low - first,
                    min(round_up(last, self.align), self.inputs) - first)

    def split(self, size: int, start: int = 0, stop: int | None = None) -> tuple[Span, ...]:
        """Return the spans of at most `size` outputs that cover ``[start, stop)``."""
        return _split(self, size, start, self.outputs if stop is None else stop)

    def largest(self, size: int) -> int:
        """Return the most inputs that a span of `size` outputs loads."""
        return max(span.inputs for span in self.split(size))


@functools.lru_cache(maxsize=4096)
def _split(axis: Axis, size: int, start: int, stop: int) -> tuple[Span, ...]:
    return tuple(axis.span(low, min(low + size, stop)) for low in range(start, stop, size))


@dataclass(frozen=True)
class Geometry:
    """The sizes of an operation on one configuration; channels in lane groups."""

    operation: Operation
    config: AcceleratorConfig
    input_shape: Shape

    def signature(self) -> tuple[object, ...]:
        """Return what tells it from geometries that are tiled differently."""
        operation = self.operation
        return (self.config, self.input_shape, operation.output.shape, operation.reduction,
                operation.window, operation.residual is None, operation.table is None,
                operation.narrow_weights, self.shared_record)

    @property
    def matrix(self) -> bool:
        """Whether the matrix unit computes it (else the post unit reduces windows itself)."""
        return self.operation.reduction is Reduction.CONVOLUTION

    @property
    def rows(self) -> Axis:
        """The vertical axis."""
        return self._axis(0, 1)

    @property
    def columns(self) -> Axis:
        """The horizontal axis."""
        return self._axis(1, self.config.words_per_beat)

    def _axis(self, index: int, align: int) -> Axis:
        window, pad = self.operation.window, self.operation.window.padding
        return Axis(
            inputs=self.input_shape[1 + index], outputs=self.operation.output.shape[1 + index],
            kernel=window.kernel[index], stride=window.stride[index],
            dilation=window.dilation[index], before=(pad.top, pad.left)[index], align=align)

    @property
    def input_groups(self) -> int:
        """Lane groups of the input."""
        return ceil_div(self.input_shape[0], self.config.lanes)

    @property
    def output_groups(self) -> int:
        """Lane groups of the output."""
        return ceil_div(self.operation.output.shape[0], self.config.lanes)

    @property
    def taps(self) -> int:
        """Positions in a window."""
        return self.operation.window.kernel[0] * self.operation.window.kernel[1]

    @property
    def depthwise(self) -> bool:
        """Whether the post unit multiplies windows by weights."""
        return self.operation.reduction is Reduction.DEPTHWISE

    @property
    def patches(self) -> int:
        """Patches of a window: the tap words of a lane group."""
        return patches(self.operation.window.kernel, self.operation.window.dilation)

    def row_cycles(self, outputs: int) -> int:
        """Return the cycles that the post unit takes for a row of `outputs` of a lane group."""
        if self.matrix:
            return outputs
        window = self.operation.window
        return row_patches(window.kernel, window.stride[1], window.dilation, outputs,
                           depthwise=self.depthwise)

    @property
    def group_words(self) -> int:
        """Weight buffer words for one input lane group and ``cols`` output channels."""
        return self.taps * pass_words(self.config, narrow=self.operation.narrow_weights)

    @property
    def shared_record(self) -> bool:
        """Whether all channels have the same bias, multiplier and shift."""
        requantization = self.operation.requantization
        return all(bool((values == values[0]).all()) for values in
                   (self.operation.bias, requantization.multiplier, requantization.shift))

    def output_pitch(self) -> int:
        """Words in a row of the output tensor in DDR."""
        return row_pitch(self.config, self.operation.output.shape[2])


def patches(kernel: tuple[int, int], dilation: tuple[int, int]) -> int:
    """Return the patches that a window is read in, see :func:`pliant.spec.memory.pack_taps`."""
    rows, columns = patch_grid(kernel, dilation)
    return rows * columns


def halvings(size: int) -> Iterator[int]:
    """Yield ``ceil(size / n)`` for n = 1, 2, 3, 4, 6, 8, 12... down to 1, without repeats."""
    seen = 0
    pieces = 1
    while seen != 1:
        if ceil_div(size, pieces) != seen:
            seen = ceil_div(size, pieces)
            yield seen
        pieces += max(1, pieces // 2)
