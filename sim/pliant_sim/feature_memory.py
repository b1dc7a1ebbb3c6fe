"""The feature buffer of the instruction-level simulator, for a batch of images at once."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from pliant.spec.config import FEATURE_BANKS, AcceleratorConfig
from pliant.spec.isa import Matrix, Post
from pliant.spec.memory import bank_of

EXACT_DEPTH = 1024
"""Products of two int8 whose sum float32 holds exactly: 1024 * 128 * 128 = 2**24."""


class SimulationError(RuntimeError):
    """A program that the hardware would not execute as meant; names the instruction."""


@dataclass(frozen=True)
class Region:
    """Where the words of a tensor lie, see :mod:`pliant.spec.memory`."""

    base: int
    group_stride: int
    row_stride: int

    def address(self, group: int, y: int, x: int) -> int:
        """Return the address in its bank of a word."""
        return self.base + group * self.group_stride + (y >> 1) * self.row_stride + (x >> 1)


@dataclass(frozen=True)
class _Unfolded:
    """The im2col matrix that a Matrix instruction read from addresses `first` to `last`."""

    window: Matrix
    columns: NDArray[np.float32]
    first: int
    last: int


class FeatureMemory:
    """Four parity banks of words.

    Parameters
    ----------
    config : AcceleratorConfig
    batch : int
        Images.
    initial : int8 array (banks, depth, lanes)
        What every image starts with.

    Attributes
    ----------
    data : int8 array (batch, banks, depth, lanes)
    """

    def __init__(
        self, config: AcceleratorConfig, batch: int, initial: NDArray[np.int8]
    ) -> None:
        assert initial.shape == (FEATURE_BANKS, config.feature_depth, config.lanes)
        self.config = config
        self.data = np.repeat(initial[np.newaxis], batch, axis=0)
        self._unfolded: _Unfolded | None = None

    def _words(
        self, region: Region, y: int, x: int, shape: tuple[int, ...]
    ) -> NDArray[np.int8]:
        """Return a view (batch, groups, rows, columns, lanes) of every second pixel from (y, x)."""
        groups, rows, columns = shape
        start = region.address(0, y, x)
        last = region.address(groups - 1, y + 2 * (rows - 1), x + 2 * (columns - 1))
        if last >= self.config.feature_depth:
            raise SimulationError(f"reaches address {last} of the feature buffer, feature_depth "
                                  f"is {self.config.feature_depth}")
        lanes = self.config.lanes
        return as_strided(
            self.data[:, bank_of(y, x), start:], (len(self.data), *shape, lanes),
            (self.data.strides[0], region.group_stride * lanes, region.row_stride * lanes, lanes,
             1))

    def write(
        self, region: Region, values: NDArray[np.int8], top: int = 0, left: int = 0
    ) -> None:
        """Write (batch, groups, rows, columns, lanes) from row `top`, column `left` on."""
        _, groups, height, width, _ = values.shape
        last = region.address(groups - 1, top + height - 1, left + width - 1)
        kept = self._unfolded
        if kept is not None and region.base <= kept.last and kept.first <= last:
            self._unfolded = None
        for y in range(top, top + min(2, height)):
            for x in range(left, left + min(2, width)):
                part = values[:, :, y - top::2, x - left::2]
                self._words(region, y, x, part.shape[1:4])[...] = part

    def read(
        self, region: Region, groups: int, rows: tuple[int, int], columns: tuple[int, int]
    ) -> NDArray[np.int8]:
        """Return (batch, groups, rows, columns, lanes) of half-open ranges."""
        (top, bottom), (left, right) = rows, columns
        shape = len(self.data), groups, bottom - top, right - left, self.config.lanes
        result = np.empty(shape, np.int8)
        for y in range(top, min(top + 2, bottom)):
            for x in range(left, min(left + 2, right)):
                part = result[:, :, y - top::2, x - left::2]
                part[...] = self._words(region, y, x, part.shape[1:4])
        return result

    def windows(self, region: Region, step: Matrix | Post, dtype: type[Any]) -> NDArray[Any]:
        """Return what an instruction sees: (batch, out y, out x, group, ky, kx, lane)."""
        padded = self._padded(region, step, dtype)
        batch, group, row, column, lane = padded.strides
        return as_strided(
            padded,
            (len(self.data), step.out_height, step.out_width, step.groups, step.kernel_height,
             step.kernel_width, self.config.lanes),
            (batch, row * step.stride_y, column * step.stride_x, group, row * step.dilation_y,
             column * step.dilation_x, lane))

    def _padded(self, region: Region, step: Matrix | Post, dtype: type[Any]) -> NDArray[Any]:
        """Return the words that windows cover: (batch, group, row, column, lane)."""
        spans = [
            (origin, origin + (outputs - 1) * stride + (kernel - 1) * dilation + 1)
            for origin, outputs, stride, kernel, dilation in (
                (step.origin_y, step.out_height, step.stride_y, step.kernel_height,
                 step.dilation_y),
                (step.origin_x, step.out_width, step.stride_x, step.kernel_width,
                 step.dilation_x),
            )
        ]
        (top, bottom), (left, right) = spans
        shape = len(self.data), step.groups, bottom - top, right - left, self.config.lanes
        padded = np.full(shape, step.pad_value, dtype)
        rows = max(top, 0), min(bottom, step.height)
        columns = max(left, 0), min(right, step.width)
        if rows[0] < rows[1] and columns[0] < columns[1]:
            padded[:, :, rows[0] - top:rows[1] - top, columns[0] - left:columns[1] - left] = (
                self.read(region, step.groups, rows, columns))
        return padded

    def depthwise(self, post: Post, taps: NDArray[np.int8]) -> NDArray[np.int32]:
        """Return sums of windows times `taps`, int8 (group, ky, kx, lane).

        The result is (batch, out y, out x, group, lane). Tap after tap is added for rows of all
        columns and lanes; columns of one stride phase are gathered first, so that rows lie densely.
        """
        region = Region(post.window, post.window_group_stride, post.window_row_stride)
        padded = self._padded(region, post, np.float32)
        stride, lanes = post.stride_x, self.config.lanes
        phases = {phase: np.ascontiguousarray(padded[:, :, :, phase::stride])
                  for phase in {kx * post.dilation_x % stride for kx in range(post.kernel_width)}}
        row_words = post.out_width * lanes
        shape = len(padded), post.groups, post.out_height, row_words
        weights = np.tile(taps.astype(np.float32), post.out_width)[:, :, :, np.newaxis]
        total, product = np.zeros(shape, np.float32), np.empty(shape, np.float32)
        sums = np.zeros(shape, np.int32)
        for count, (ky, kx) in enumerate(np.ndindex(post.kernel_height, post.kernel_width), 1):
            skipped, phase = divmod(kx * post.dilation_x, stride)
            rows = phases[phase].reshape(*padded.shape[:3], -1)[
                :, :, ky * post.dilation_y::post.stride_y][:, :, :post.out_height]
            np.multiply(rows[..., skipped * lanes:skipped * lanes + row_words],
                        weights[:, ky, kx], out=product)
            total += product
            if count % EXACT_DEPTH == 0 or count == post.kernel_height * post.kernel_width:
                sums += total.astype(np.int32)
                total[...] = 0
        return sums.reshape(*shape[:3], post.out_width, lanes).transpose(0, 2, 3, 1, 4)

    def unfold(self, matrix: Matrix) -> NDArray[np.float32]:
        """Return the im2col matrix (batch * pixels, weight words) of a Matrix instruction.

        It is kept until its words change: the tiles of output channels all multiply the same.
        """
        window = dataclasses.replace(matrix, wait=0, signal=0, weights=0, accumulator_bank=0,
                                     accumulator_base=0, accumulate=0)
        if self._unfolded is None or self._unfolded.window != window:
            region = Region(matrix.source, matrix.group_stride, matrix.row_stride)
            pixels = len(self.data) * matrix.out_height * matrix.out_width
            columns = self.windows(region, matrix, np.float32).reshape(pixels, -1)
            last = region.address(matrix.groups - 1, matrix.height - 1, matrix.width - 1)
            self._unfolded = _Unfolded(window, columns, matrix.source, last)
        return self._unfolded.columns
