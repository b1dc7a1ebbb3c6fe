"""Integer arithmetic of the contract: requantization, rounding, saturation, zero points.

These functions define the results; simulators call them and the RTL is tested against them.
"""

from __future__ import annotations

import enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

INT8_MIN, INT8_MAX = -128, 127
WEIGHT_MIN, WEIGHT_MAX = -127, 127
"""Weights are int8 of narrow range: what lets an FPGA's multiplier compute two products at once."""

NARROW_WEIGHT_MIN, NARROW_WEIGHT_MAX = -7, 7
"""Weights that int4 of narrow range can hold: two fit a byte of the weight buffer."""

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1
MAX_SHIFT = 62
"""Largest right shift of a product of an int32 and a 31-bit multiplier (63 bits signed)."""

IntArray = NDArray[np.integer[Any]]


class Rounding(enum.IntEnum):
    """How a right shift rounds; a field of the instruction."""

    HALF_EVEN = 0
    """To nearest, ties to even: Brevitas, ONNX Runtime, IEEE 754."""
    HALF_UP = 1
    """To nearest, ties towards plus infinity."""
    GEMMLOWP = 2
    """Ties up at ``multiplier_bits``, then ties away from zero for the rest of the shift:
    SaturatingRoundingDoublingHighMul and RoundingDivideByPOT of gemmlowp (TFLite) when
    ``multiplier_bits`` is 31."""


def shift_half_even(value: IntArray, shift: IntArray | int) -> NDArray[np.int64]:
    """Return ``value / 2**shift`` rounded to nearest, ties to even (int64)."""
    value, shift = np.asarray(value, np.int64), np.asarray(shift, np.int64)
    some = np.asarray(shift > 0, np.int64)  # 0 when there is nothing to round
    rounded: NDArray[np.int64] = value >> shift
    rounded &= some  # 1 where the floor is odd: then half rounds up
    rounded += ((np.int64(1) << shift) >> 1) - some
    rounded += value
    rounded >>= shift
    return rounded


def shift_half_up(value: IntArray, shift: IntArray | int) -> NDArray[np.int64]:
    """Return ``floor(value / 2**shift + 1/2)`` (int64)."""
    value, shift = np.asarray(value, np.int64), np.asarray(shift, np.int64)
    bit_below = (value >> np.maximum(shift - 1, 0)) & 1
    rounded: NDArray[np.int64] = (value >> shift) + np.where(shift > 0, bit_below, 0)
    return rounded


def shift_half_away(value: IntArray, shift: IntArray | int) -> NDArray[np.int64]:
    """Return ``value / 2**shift`` rounded to nearest, ties away from zero (int64)."""
    value = np.asarray(value, np.int64)
    magnitude = shift_half_up(np.abs(value), shift)
    return np.where(value < 0, -magnitude, magnitude)


def rounding_shift(
    value: IntArray, shift: IntArray | int, rounding: Rounding
) -> NDArray[np.int64]:
    """Shift right and round once; GEMMLOWP means ties away from zero here."""
    if rounding is Rounding.HALF_EVEN:
        return shift_half_even(value, shift)
    if rounding is Rounding.HALF_UP:
        return shift_half_up(value, shift)
    return shift_half_away(value, shift)


def requantize(
    accumulator: IntArray,
    multiplier: IntArray | int,
    shift: IntArray | int,
    *,
    rounding: Rounding,
    multiplier_bits: int,
    zero_point: int = 0,
    clip_min: int = INT8_MIN,
    clip_max: int = INT8_MAX,
) -> NDArray[np.int8]:
    """Scale int32 sums to int8: ``clip(round(accumulator * multiplier / 2**shift) + zero_point)``.

    Parameters
    ----------
    accumulator : integer array, int32 range
        Sums with the bias added.
    multiplier : integer array or int, 0 to 2**multiplier_bits - 1
        Broadcast against `accumulator` (per channel in the last axis, or one for all).
    shift : integer array or int, 0 to 62
        With Rounding.GEMMLOWP at least `multiplier_bits`.
    rounding : Rounding
        Ties of the shift.
    multiplier_bits : int
        Width of the multiplier; the first of GEMMLOWP's two shifts.
    zero_point, clip_min, clip_max : int
        Of the result; int8 range.
    """
    product = np.asarray(accumulator, np.int64) * np.asarray(multiplier, np.int64)
    shift = np.asarray(shift, np.int64)
    if rounding is Rounding.GEMMLOWP:
        product = shift_half_up(product, multiplier_bits)
        shift = np.maximum(shift - multiplier_bits, 0)
    scaled = rounding_shift(product, shift, rounding)
    scaled += zero_point
    return np.minimum(np.maximum(scaled, clip_min), clip_max).astype(np.int8)


def add(
    first: IntArray,
    second: IntArray,
    *,
    multiplier_first: int,
    multiplier_second: int,
    offset: int,
    shift: int,
    rounding: Rounding,
    zero_point: int = 0,
    clip_min: int = INT8_MIN,
    clip_max: int = INT8_MAX,
) -> NDArray[np.int8]:
    """Weighted sum of two int8 tensors, rounded once.

    ``clip(round((first*multiplier_first + second*multiplier_second + offset) / 2**shift)
    + zero_point)``. The zero points of the operands are folded into `offset`.
    """
    total = (
        np.asarray(first, np.int64) * multiplier_first
        + np.asarray(second, np.int64) * multiplier_second
        + offset
    )
    scaled = rounding_shift(total, shift, rounding)
    scaled += zero_point
    return np.minimum(np.maximum(scaled, clip_min), clip_max).astype(np.int8)
