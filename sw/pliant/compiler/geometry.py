"""Which inputs a range of outputs needs, and the sizes that tiling and emission work with."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pliant.compiler.graph import Shape, Tensor
from pliant.compiler.operation import Operation, Reduction
from pliant.compiler.phases import PHASES
from pliant.compiler.pieces import LaneGroups
from pliant.spec.config import AcceleratorConfig
from pliant.spec.memory import (
    ceil_div,
    displaced_cycles,
    pass_words,
    patch_grid,
    round_up,
    row_patches,
    row_pitch,
)


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
    reach: tuple[int, int] = (0, 0)
    """How far before and behind its place a tap may be displaced."""

    def span(self, start: int, stop: int) -> Span:
        """Return what outputs ``[start, stop)`` read."""
        origin = start * self.stride - self.before
        low = origin - self.reach[0]
        high = (origin + (stop - 1 - start) * self.stride + (self.kernel - 1) * self.dilation + 1
                + self.reach[1])
        # A range that sees nothing but padding still needs a region: of one pixel.
        first = min(max(low, 0), self.inputs - 1) // self.align * self.align
        last = max(min(high, self.inputs), first + 1)
        return Span(start, stop, first, round_up(last, self.align), origin - first,
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
    """The sizes of an operation on one configuration; channels in lane groups.

    `input_shape` is that of the window's first tensor, `more_channels` are those of the others.
    """

    operation: Operation
    config: AcceleratorConfig
    input_shape: Shape
    more_channels: tuple[int, ...] = ()

    @classmethod
    def of(
        cls, operation: Operation, config: AcceleratorConfig, tensors: Mapping[str, Tensor]
    ) -> Geometry:
        """Return the geometry of an operation that reads some of `tensors`."""
        shape, *more = (tensors[name].shape for name in operation.windows)
        return cls(operation, config, shape, tuple(channels for channels, *_ in more))

    def signature(self) -> tuple[object, ...]:
        """Return what tells it from geometries that are tiled differently."""
        operation = self.operation
        return (self.config, self.input_shape, operation.output.shape, operation.reduction,
                operation.window, operation.sampling, operation.upsample, operation.phased,
                operation.residual is None, operation.table is None, self.shared_record,
                self.more_channels, operation.narrow_weights,
                None if not self.matrix or self.lane_groups.whole
                else self.lane_groups.tiles.tobytes())

    @property
    def matrix(self) -> bool:
        """Whether the matrix unit computes it (else the post unit reduces windows itself)."""
        return self.operation.reduction is Reduction.CONVOLUTION

    @functools.cached_property
    def rows(self) -> Axis:
        """The vertical axis."""
        return self._axis(0, 1)

    @functools.cached_property
    def columns(self) -> Axis:
        """The horizontal axis."""
        return self._axis(1, self.config.words_per_beat)

    def _axis(self, index: int, align: int) -> Axis:
        window, pad = self.operation.window, self.operation.window.padding
        sampling = self.operation.sampling
        return Axis(
            inputs=self.input_shape[1 + index],
            outputs=self.operation.output.shape[1 + index] // self.zoom,
            kernel=window.kernel[index], stride=window.stride[index],
            dilation=window.dilation[index], before=(pad.top, pad.left)[index], align=align,
            reach=sampling.reach(window.kernel[index]) if sampling else (0, 0))

    @functools.cached_property
    def lane_groups(self) -> LaneGroups:
        """What each tile of output channels of a convolution multiplies."""
        assert self.operation.weight is not None
        return LaneGroups(self.config, self.operation.weight,
                          (self.input_shape[0], *self.more_channels))

    @property
    def sources(self) -> int:
        """Tensors that the window reads."""
        return 1 + len(self.more_channels)

    @property
    def input_groups(self) -> int:
        """Input lane groups that a tile of output channels needs."""
        if self.matrix:
            return self.lane_groups.tiles.shape[1]
        return ceil_div(self.input_shape[0], self.config.lanes)

    @property
    def output_groups(self) -> int:
        """Lane groups of the output."""
        return ceil_div(self.operation.output.shape[0], self.config.lanes)

    @property
    def displacement_groups(self) -> tuple[int, ...]:
        """Lane groups of the offsets and, if there are, of the masks."""
        sampling, kernel = self.operation.sampling, self.operation.window.kernel
        if sampling is None:
            return ()
        channels = sampling.offset_channels(kernel), sampling.mask_channels(kernel)
        return tuple(ceil_div(count, self.config.lanes) for count in channels if count)

    @property
    def most_pixels(self) -> int:
        """Outputs that a Matrix instruction may compute; 0 where the offsets do not fit."""
        depths = self.config.offset_depth, self.config.mask_depth
        return min((self.config.accumulator_depth, *(
            depth // groups for depth, groups in zip(depths, self.displacement_groups,
                                                     strict=False))))

    @property
    def taps(self) -> int:
        """Positions in a window."""
        return self.operation.window.kernel[0] * self.operation.window.kernel[1]

    @property
    def zoom(self) -> int:
        """Rows and columns of the output tensor for each that is computed."""
        return 2 if self.operation.upsample else 1

    @property
    def depthwise(self) -> bool:
        """Whether the post unit multiplies windows by weights."""
        return self.operation.reduction is Reduction.DEPTHWISE

    @property
    def displaced(self) -> bool:
        """Whether the post unit displaces the taps of its windows."""
        return self.operation.displaced

    @property
    def patches(self) -> int:
        """Patches of a window, or of its phases; a displaced tap is one."""
        if self.operation.phased:
            return PHASES
        if self.displaced:
            return self.taps
        return patches(self.operation.window.kernel, self.operation.window.dilation)

    def tap_words(self, groups: int) -> int:
        """Return the tap words of `groups` lane groups that the post unit computes together."""
        return self.patches * (1 if self.displaced else groups)

    def row_cycles(self, outputs: int, groups: int = 1) -> int:
        """Return the post unit's cycles for a row of `outputs` of lane groups computed together."""
        if self.matrix:
            return groups * outputs
        if self.operation.phased:
            return groups * PHASES * outputs
        window = self.operation.window
        if self.displaced:
            return outputs * displaced_cycles(window.kernel, groups, *self.displacement_groups)
        return groups * row_patches(window.kernel, window.stride[1], window.dilation, outputs,
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
