"""What single units must compute, one pixel at a time as the instruction set words it.

Slow and literal on purpose, and independent of the instruction-level simulator.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pliant.spec.config import FEATURE_BANKS, AcceleratorConfig
from pliant.spec.isa import Matrix, Post, Source
from pliant.spec.memory import bank_of
from pliant.spec.numerics import Rounding, add, requantize
from pliant.spec.sampling import Offsets


class Features:
    """Contents of the feature buffer: `words`, int8 (bank, address, lane)."""

    def __init__(self, config: AcceleratorConfig, random: np.random.Generator) -> None:
        shape = (FEATURE_BANKS, config.feature_depth, config.lanes)
        self.words = random.integers(-128, 128, shape, np.int8)

    def place(
        self, base: int, group_stride: int, row_stride: int, group: int, y: int, x: int
    ) -> tuple[int, int]:
        """Return (bank, address) of a word of a region."""
        start = base + group * group_stride
        address = start + (y >> 1) * row_stride + (x >> 1)
        return bank_of(start, y, x), address % self.words.shape[1]


def pixels(instruction: Matrix | Post) -> Iterator[tuple[int, int]]:
    """Yield (y, x) of the output tile in order."""
    for y in range(instruction.out_height):
        for x in range(instruction.out_width):
            yield y, x


def window_position(
    instruction: Matrix | Post, y: int, x: int, ky: int, kx: int,
    down: Fraction | int = 0, right: Fraction | int = 0,
) -> tuple[int, int] | None:
    """Return the input row and column of a window position, None when outside the region.

    It is moved `down` and to the `right`, to the nearest pixel.
    """
    row = _nearest(Fraction(
        down + instruction.origin_y + y * instruction.stride_y + ky * instruction.dilation_y))
    column = _nearest(Fraction(
        right + instruction.origin_x + x * instruction.stride_x + kx * instruction.dilation_x))
    inside = 0 <= row < instruction.height and 0 <= column < instruction.width
    return (row, column) if inside else None


class OffsetStore:
    """Contents of the offset memory: int8 (word, lane) each."""

    def __init__(self, config: AcceleratorConfig) -> None:
        self.offsets = np.zeros((config.offset_depth, config.lanes), np.int8)
        self.masks = np.zeros((config.mask_depth, config.lanes), np.int8)

    def load(self, instruction: Matrix, features: Features) -> None:
        """Copy what `instruction` names."""
        names = ["offset"] + ["mask"] * (instruction.offsets == Offsets.MODULATED)
        for name, memory in zip(names, (self.offsets, self.masks), strict=False):
            def field(what: str, name: str = name) -> int:
                return int(getattr(instruction, f"{name}_{what}"))

            word = 0
            for group in range(field("groups")):
                for y, x in pixels(instruction):
                    memory[word] = features.words[features.place(
                        field("source"), field("group_stride"), field("row_stride"), group,
                        field("y") + y, field("x") + x)]
                    word += 1


def _displaced(
    instruction: Matrix, store: OffsetStore, index: int, ky: int, kx: int
) -> tuple[Fraction, Fraction, Fraction]:
    """Return rows and columns that a tap moves by at output pixel `index`, and its factor."""
    lanes = store.offsets.shape[1]
    count = instruction.out_height * instruction.out_width

    def channel(memory: NDArray[np.int8], number: int) -> int:
        return int(memory[number // lanes * count + index, number % lanes])

    factor = Fraction(1)
    if instruction.offsets == Offsets.MODULATED:
        tap = ky * instruction.kernel_width + kx
        factor = Fraction(channel(store.masks, tap) + 128, 128)
    return *_moved(instruction, lambda number: channel(store.offsets, number), ky, kx), factor


def _moved(
    instruction: Matrix | Post, channel: Callable[[int], int], ky: int, kx: int
) -> tuple[Fraction, Fraction]:
    """Return rows and columns that a tap moves by; `channel` gives a pixel's offsets."""
    def pixels_of(number: int) -> Fraction:
        clamped = min(max(channel(number), instruction.offset_min), instruction.offset_max)
        return Fraction(clamped << instruction.offset_shift, 16)

    if instruction.offsets == Offsets.SCALED:
        return ((ky - instruction.kernel_height // 2) * pixels_of(0),
                (kx - instruction.kernel_width // 2) * pixels_of(0))
    tap = ky * instruction.kernel_width + kx
    return pixels_of(2 * tap), pixels_of(2 * tap + 1)


def _nearest(position: Fraction) -> int:
    """Return the whole number nearest to a position, a half up."""
    return int((position + Fraction(1, 2)) // 1)


def _word(
    instruction: Matrix, features: Features, group: int, y: int, x: int
) -> NDArray[np.int64]:
    """Return the word of the region at (y, x), the pad value outside."""
    if not (0 <= y < instruction.height and 0 <= x < instruction.width):
        return np.full(features.words.shape[2], instruction.pad_value, np.int64)
    place = features.place(instruction.source, instruction.group_stride, instruction.row_stride,
                           group, y, x)
    word: NDArray[np.int64] = features.words[place].astype(np.int64)
    return word


def _sample(
    instruction: Matrix, features: Features, group: int, at: tuple[Fraction, Fraction],
    factor: Fraction,
) -> NDArray[np.int64]:
    """Return the word at a position between pixels."""
    if not instruction.interpolate:
        at = Fraction(_nearest(at[0])), Fraction(_nearest(at[1]))
    y, x = int(at[0] // 1), int(at[1] // 1)
    down, right = at[0] - y, at[1] - x
    total = np.zeros(features.words.shape[2], object)
    for i, weight_y in enumerate((1 - down, down)):
        for j, weight_x in enumerate((1 - right, right)):
            word = _word(instruction, features, group, y + i, x + j) - instruction.pad_value
            total += np.array([weight_y * weight_x * int(value) for value in word])
    rounded = [round(value * factor) + instruction.pad_value for value in total]
    return np.array([min(max(value, -128), 127) for value in rounded], np.int64)


def run_matrix(
    config: AcceleratorConfig,
    instruction: Matrix,
    features: Features,
    weights: NDArray[np.int8],
    accumulators: NDArray[np.int32],
    store: OffsetStore | None = None,
) -> None:
    """Execute `instruction` on `accumulators`.

    `weights` are int8 (word, column), `accumulators` int32 (bank, entry, column); `store` is
    needed for instructions with offsets.
    """
    word = instruction.weights
    fresh = not instruction.accumulate
    bank = accumulators[instruction.accumulator_bank]
    if instruction.offsets and instruction.offset_load:
        assert store is not None
        store.load(instruction, features)
    for group in range(instruction.groups):
        for ky in range(instruction.kernel_height):
            for kx in range(instruction.kernel_width):
                tile = _weight_tile(config, instruction, weights, word)
                for index, (y, x) in enumerate(pixels(instruction)):
                    row = (instruction.origin_y + y * instruction.stride_y
                           + ky * instruction.dilation_y)
                    column = (instruction.origin_x + x * instruction.stride_x
                              + kx * instruction.dilation_x)
                    if instruction.offsets:
                        assert store is not None
                        down, right, factor = _displaced(instruction, store, index, ky, kx)
                        vector = _sample(instruction, features, group,
                                         (row + down, column + right), factor)
                    else:
                        vector = _word(instruction, features, group, row, column)
                    entry = (instruction.accumulator_base + index) % config.accumulator_depth
                    bank[entry] = vector @ tile + (0 if fresh else bank[entry])
                word += config.rows // (1 + instruction.narrow_weights)
                fresh = False


def _weight_tile(
    config: AcceleratorConfig, instruction: Matrix, weights: NDArray[np.int8], word: int
) -> NDArray[np.int32]:
    """Return the weights of one pass, (row, column), that begin at `word` of the buffer."""
    tile = np.empty((config.rows, config.cols), np.int32)
    for row, column in np.ndindex(*tile.shape):
        address = word + (row // 2 if instruction.narrow_weights else row)
        weight = int(weights[address % config.weight_depth, column])
        if instruction.narrow_weights:
            weight = (weight & 255) >> 4 * (row % 2) & 15
            weight -= 16 * (weight > 7)
        tile[row, column] = weight
    return tile


def run_post(
    config: AcceleratorConfig,
    instruction: Post,
    features: Features,
    accumulators: NDArray[np.int32],
    records: dict[str, NDArray[np.int64]],
    table: NDArray[np.int8],
    weights: NDArray[np.int8] | None = None,
) -> None:
    """Execute `instruction` on `features`; `records` holds bias, multiplier and shift.

    `weights`, int8 (channel, kernel row, kernel column), are those of DEPTHWISE.
    """
    rounding = Rounding(instruction.rounding)
    for group in range(instruction.groups):
        channels = group * config.lanes + np.arange(config.lanes)
        if not instruction.offsets:
            channels %= config.cols
        channels += instruction.parameters
        for index, (y, x) in enumerate(pixels(instruction)):
            if instruction.source == Source.ACCUMULATOR:
                entry = instruction.accumulator_base + index
                first = group * config.lanes
                value = accumulators[instruction.accumulator_bank, entry,
                                     first:first + config.lanes].astype(np.int64)
            else:
                value = _reduce(config, instruction, features, group, y, x, weights)
            result = requantize(
                value + records["bias"][channels], records["multiplier"][channels],
                records["shift"][channels], rounding=rounding,
                multiplier_bits=config.multiplier_bits, zero_point=instruction.zero_point,
                clip_min=instruction.clip_min, clip_max=instruction.clip_max)
            if instruction.add_enable:
                place = features.place(
                    instruction.residual, instruction.residual_group_stride,
                    instruction.residual_row_stride, group,
                    instruction.residual_y + y, instruction.residual_x + x)
                result = add(
                    result, features.words[place],
                    multiplier_first=instruction.add_multiplier,
                    multiplier_second=instruction.add_residual_multiplier,
                    offset=instruction.add_offset, shift=instruction.add_shift,
                    rounding=rounding, zero_point=instruction.add_zero_point,
                    clip_min=instruction.add_clip_min, clip_max=instruction.add_clip_max)
            if instruction.table_enable:
                result = table[result.astype(np.int64) & 255]
            zoom = 2 if instruction.upsample else 1
            for dy, dx in itertools.product(range(zoom), repeat=2):
                if zoom == 2 and not instruction.upsample >> (2 * dy + dx) & 1:
                    continue
                place = features.place(
                    instruction.destination, instruction.destination_group_stride,
                    instruction.destination_row_stride, group,
                    instruction.destination_y + zoom * y + dy,
                    instruction.destination_x + zoom * x + dx)
                features.words[place] = result


def _tap_position(
    config: AcceleratorConfig, instruction: Post, features: Features, y: int, x: int,
    ky: int, kx: int,
) -> tuple[int, int] | None:
    """Return the row and column that a tap reads, None when outside the region."""
    def offset(number: int) -> int:
        group, lane = divmod(number, config.lanes)
        assert group < instruction.offset_groups, "the offsets need more lane groups"
        place = features.place(
            instruction.residual, instruction.residual_group_stride,
            instruction.residual_row_stride, group,
            instruction.residual_y + y, instruction.residual_x + x)
        return int(features.words[(*place, lane)])

    down, right = _moved(instruction, offset, ky, kx) if instruction.offsets else (0, 0)
    return window_position(instruction, y, x, ky, kx, down, right)


def _reduce(
    config: AcceleratorConfig, instruction: Post, features: Features, group: int, y: int, x: int,
    weights: NDArray[np.int8] | None,
) -> NDArray[np.int64]:
    window = []
    for ky in range(instruction.kernel_height):
        for kx in range(instruction.kernel_width):
            position = _tap_position(config, instruction, features, y, x, ky, kx)
            if position is None:
                tap = np.full(config.lanes, instruction.pad_value, np.int64)
            else:
                place = features.place(
                    instruction.window, instruction.window_group_stride,
                    instruction.window_row_stride, group, *position)
                tap = features.words[place].astype(np.int64)
            if instruction.source == Source.DEPTHWISE:
                assert weights is not None, "DEPTHWISE needs weights"
                first = group * config.lanes
                tap = tap * weights[first:first + config.lanes, ky, kx]
            window.append(tap)
    maximum = instruction.source == Source.MAXIMUM
    reduced: NDArray[np.int64] = np.max(window, 0) if maximum else np.sum(window, 0)
    return reduced
