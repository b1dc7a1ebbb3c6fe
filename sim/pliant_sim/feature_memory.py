"""The feature buffer of the instruction-level simulator, for a batch of images at once."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pliant.spec.config import FEATURE_BANKS, AcceleratorConfig
from pliant.spec.isa import Matrix, Post, fields
from pliant.spec.memory import bank_of, ceil_div
from pliant.spec.sampling import FRACTION_BITS, Offsets, displacement, sample

EXACT_DEPTH = 1024
"""Products of two int8 whose sum float32 holds exactly: 1024 * 128 * 128 = 2**24."""


KEPT = 4
"""Unfolded tiles that are kept: bands of rows take turns while their weights stay."""

_WINDOW = operator.attrgetter(*(
    field.name for field in fields(Matrix)
    if field.name not in ("weights", "accumulator_bank", "accumulator_base", "accumulate",
                          "narrow_weights", "offset_load")))
"""What of a Matrix instruction says which words it reads."""


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
    """An im2col matrix, made of the words at addresses `first` to `last`."""

    columns: NDArray[np.float32]
    first: int
    last: int
    displaced: bool
    """By what the offset memory held."""


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
    offsets, masks : int8 arrays (batch, words, lanes)
        The offset memory.
    """

    def __init__(
        self, config: AcceleratorConfig, batch: int, initial: NDArray[np.int8]
    ) -> None:
        assert initial.shape == (FEATURE_BANKS, config.feature_depth, config.lanes)
        self.config = config
        self.data = np.repeat(initial[np.newaxis], batch, axis=0)
        self.offsets, self.masks = (
            np.zeros((batch, depth, config.lanes), np.int8)
            for depth in (config.offset_depth, config.mask_depth))
        self._unfolded: dict[tuple[int, ...], _Unfolded] = {}

    def _words(
        self, region: Region, groups: int, rows: tuple[int, int], columns: tuple[int, int]
    ) -> Iterator[tuple[slice, NDArray[np.int8]]]:
        """Yield views (batch, groups, row pairs, 2, column pairs, 2, lanes) of half-open ranges.

        Each is of every so many lane groups, those that begin in the same bank; with it come their
        numbers. Pairs are those of the banks: they begin at even rows and columns, and both words
        of a pair are at the same address.
        """
        (top, bottom), (left, right) = rows, columns
        last = region.address(groups - 1, bottom - 1, right - 1)
        if last >= self.config.feature_depth:
            raise SimulationError(f"reaches address {last} of the feature buffer, feature_depth "
                                  f"is {self.config.feature_depth}")
        image, bank, word, lane = self.data.strides
        period = FEATURE_BANKS // math.gcd(region.group_stride, FEATURE_BANKS)
        for first in range(min(period, groups)):
            start = region.address(first, 0, 0)
            origin, below, right_of = (bank_of(start, *pixel) for pixel in ((0, 0), (1, 0), (0, 1)))
            shape = (len(self.data), len(range(first, groups, period)),
                     ceil_div(bottom, 2) - top // 2, 2, ceil_div(right, 2) - left // 2, 2,
                     self.config.lanes)
            strides = (image, period * region.group_stride * word, region.row_stride * word,
                       bank * (below - origin), word, bank * (right_of - origin), lane)
            yield slice(first, None, period), np.ndarray(
                shape, np.int8, self.data,
                bank * origin + region.address(first, top, left) * word, strides)

    def write(
        self, region: Region, values: NDArray[np.int8], top: int = 0, left: int = 0
    ) -> None:
        """Write (batch, groups, rows, columns, lanes) from row `top`, column `left` on."""
        _, groups, height, width, _ = values.shape
        bottom, right = top + height, left + width
        last = region.address(groups - 1, bottom - 1, right - 1)
        self._unfolded = {window: kept for window, kept in self._unfolded.items()
                          if kept.last < region.base or last < kept.first}
        for numbers, words in self._words(region, groups, (top, bottom), (left, right)):
            pixels = _pixels(words)
            pixels[:, :, top & 1:, left & 1:][:, :, :height, :width] = values[:, numbers]
            words[...] = pixels.reshape(words.shape)

    def read(
        self, region: Region, groups: int, rows: tuple[int, int], columns: tuple[int, int]
    ) -> NDArray[np.int8]:
        """Return (batch, groups, rows, columns, lanes) of half-open ranges."""
        (top, bottom), (left, right) = rows, columns
        shape = len(self.data), groups, bottom - top, right - left, self.config.lanes
        result = np.empty(shape, np.int8)
        self._read(region, rows, columns, result)
        return result

    def _read(
        self, region: Region, rows: tuple[int, int], columns: tuple[int, int], into: NDArray[Any]
    ) -> None:
        """Fill `into`, see :meth:`read`."""
        _, groups, height, width, _ = into.shape
        top, left = rows[0] & 1, columns[0] & 1
        for numbers, words in self._words(region, groups, rows, columns):
            into[:, numbers] = _pixels(words)[:, :, top:top + height, left:left + width]

    def windows(self, region: Region, step: Matrix | Post, dtype: type[Any]) -> NDArray[Any]:
        """Return what an instruction sees: (batch, out y, out x, group, ky, kx, lane)."""
        padded = self._padded(region, step, dtype)
        batch, group, row, column, lane = padded.strides
        return np.ndarray(
            (len(self.data), step.out_height, step.out_width, step.groups, step.kernel_height,
             step.kernel_width, self.config.lanes), dtype, padded, 0,
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
        rows = max(top, 0), min(bottom, step.height)
        columns = max(left, 0), min(right, step.width)
        inside = rows == (top, bottom) and columns == (left, right)
        padded = np.empty(shape, dtype) if inside else np.full(shape, step.pad_value, dtype)
        if rows[0] < rows[1] and columns[0] < columns[1]:
            self._read(region, rows, columns, padded[
                :, :, rows[0] - top:rows[1] - top, columns[0] - left:columns[1] - left])
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

    def load_offsets(self, matrix: Matrix) -> None:
        """Copy the offsets and masks of a tile from their regions to the offset memory."""
        self._unfolded = {window: kept for window, kept in self._unfolded.items()
                          if not kept.displaced}
        copies = [(self.offsets, matrix.offset_groups, matrix.offset_y, matrix.offset_x, Region(
            matrix.offset_source, matrix.offset_group_stride, matrix.offset_row_stride))]
        if matrix.offsets == Offsets.MODULATED:
            copies.append((self.masks, matrix.mask_groups, matrix.mask_y, matrix.mask_x, Region(
                matrix.mask_source, matrix.mask_group_stride, matrix.mask_row_stride)))
        for memory, groups, y, x, region in copies:
            words = self.read(region, groups, (y, y + matrix.out_height), (x, x + matrix.out_width))
            flat = words.reshape(len(words), -1, self.config.lanes)
            memory[:, :flat.shape[1]] = flat

    def _sampled_columns(self, matrix: Matrix) -> NDArray[np.float32]:
        """Return the samples that a Matrix reads: (batch * pixels, weight words)."""
        size = matrix.out_height, matrix.out_width

        def tile(memory: NDArray[np.int8], groups: int) -> NDArray[np.int8]:
            words = memory[:, :groups * size[0] * size[1]]
            return words.reshape(len(words), groups, *size, self.config.lanes)

        modulated = matrix.offsets == Offsets.MODULATED
        samples = self._samples(
            Region(matrix.source, matrix.group_stride, matrix.row_stride), matrix,
            tile(self.offsets, matrix.offset_groups),
            tile(self.masks, matrix.mask_groups) if modulated else None)
        return samples.reshape(len(samples) * size[0] * size[1], -1)

    def _samples(
        self, region: Region, step: Matrix | Post, offsets: NDArray[np.int8],
        masks: NDArray[np.int8] | None = None,
    ) -> NDArray[np.float32]:
        """Return what an instruction reads at displaced taps, laid out as :meth:`windows`.

        `offsets` and `masks` are words: (batch, group, out y, out x, lane).
        """
        kernel = step.kernel_height, step.kernel_width
        size = step.out_height, step.out_width
        lanes = self.config.lanes
        sampling = step.sampling()
        assert sampling is not None

        def channels(words: NDArray[np.int8], what: str, needed: int) -> NDArray[np.int8]:
            batch, groups = words.shape[:2]
            if needed > groups * lanes:
                raise SimulationError(f"{what}_groups = {groups} have {groups * lanes} channels, "
                                      f"the kernel needs {needed}")
            return words.transpose(0, 1, 4, 2, 3).reshape(batch, groups * lanes, *size)

        offsets = channels(offsets, "offset", sampling.offset_channels(kernel))
        if masks is not None:
            masks = channels(masks, "mask", sampling.mask_channels(kernel))
        words = self.read(region, step.groups, (0, step.height), (0, step.width))
        values = words.transpose(0, 2, 3, 1, 4).reshape(
            len(words), step.height, step.width, step.groups * lanes)
        base_y = (step.origin_y + np.arange(size[0]) * step.stride_y)[:, None]
        base_x = (step.origin_x + np.arange(size[1]) * step.stride_x)[None, :]
        columns = np.empty(
            (len(words), *size, step.groups, *kernel, lanes), np.float32)
        for tap, (ky, kx) in enumerate(np.ndindex(*kernel)):
            rows, across = displacement(sampling, offsets, kernel, ky, kx)
            samples = sample(
                values, rows + (base_y + ky * step.dilation_y << FRACTION_BITS),
                across + (base_x + kx * step.dilation_x << FRACTION_BITS),
                zero_point=step.pad_value, interpolate=sampling.interpolate,
                mask=None if masks is None else masks[:, tap])
            columns[:, :, :, :, ky, kx] = samples.reshape(len(words), *size, step.groups, lanes)
        return columns

    def displaced(self, post: Post, taps: NDArray[np.int8]) -> NDArray[np.int32]:
        """Return sums of displaced taps: see :meth:`depthwise`."""
        words = self.read(
            Region(post.residual, post.residual_group_stride, post.residual_row_stride),
            post.offset_groups, (post.residual_y, post.residual_y + post.out_height),
            (post.residual_x, post.residual_x + post.out_width))
        region = Region(post.window, post.window_group_stride, post.window_row_stride)
        samples = self._samples(region, post, words).astype(np.int32)
        return np.asarray((samples * taps).sum(axis=(4, 5), dtype=np.int32))

    def unfold(self, matrix: Matrix) -> NDArray[np.float32]:
        """Return the im2col matrix (batch * pixels, weight words) of a Matrix instruction.

        The last few are kept until their words change: tiles of output channels multiply the same.
        """
        if matrix.offsets and matrix.offset_load:
            self.load_offsets(matrix)
        window = _WINDOW(matrix)
        kept = self._unfolded.pop(window, None)
        if kept is None:
            region = Region(matrix.source, matrix.group_stride, matrix.row_stride)
            if matrix.offsets:
                columns = self._sampled_columns(matrix)
            else:
                pixels = len(self.data) * matrix.out_height * matrix.out_width
                columns = self.windows(region, matrix, np.float32).reshape(pixels, -1)
            last = region.address(matrix.groups - 1, matrix.height - 1, matrix.width - 1)
            kept = _Unfolded(columns, matrix.source, last, bool(matrix.offsets))
        self._unfolded[window] = kept
        if len(self._unfolded) > KEPT:
            del self._unfolded[next(iter(self._unfolded))]
        return kept.columns


def _pixels(words: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return (batch, groups, rows, columns, lanes), all of the pairs, as a copy where it must."""
    batch, groups, row_pairs, _, column_pairs, _, lanes = words.shape
    return words.reshape(batch, groups, 2 * row_pairs, 2 * column_pairs, lanes)
