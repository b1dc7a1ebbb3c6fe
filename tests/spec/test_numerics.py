"""Rounding against exact rational arithmetic and against gemmlowp's definitions."""

import math
from fractions import Fraction

import numpy as np
import pytest

from pliant.spec.numerics import (
    INT32_MAX,
    INT32_MIN,
    MAX_SHIFT,
    Rounding,
    add,
    requantize,
    rounding_shift,
)

VALUES = sorted({sign * (base + delta) for sign in (-1, 1) for delta in (-1, 0, 1)
                 for base in (0, 1, 2, 3, 5, 6, 127, 128, 192, 1 << 20, 3 << 19, INT32_MAX,
                              (1 << 62) - 2)})


def exact(value: int, shift: int, rounding: Rounding) -> int:
    fraction = Fraction(value, 1 << shift)
    if rounding is Rounding.HALF_EVEN:
        return round(fraction)
    if rounding is Rounding.HALF_UP:
        return math.floor(fraction + Fraction(1, 2))
    return int(math.copysign(1, value)) * math.floor(abs(fraction) + Fraction(1, 2))


@pytest.mark.parametrize("rounding", list(Rounding))
def test_one_shift_rounds_as_exact_arithmetic_does(rounding: Rounding) -> None:
    for shift in (0, 1, 2, 3, 7, 31, 32, MAX_SHIFT):
        found = rounding_shift(np.array(VALUES), shift, rounding)
        assert found.tolist() == [exact(value, shift, rounding) for value in VALUES], shift


def gemmlowp(value: int, multiplier: int, right_shift: int) -> int:
    """SaturatingRoundingDoublingHighMul and RoundingDivideByPOT in C semantics."""
    product = value * multiplier
    nudge = 1 << 30 if product >= 0 else 1 - (1 << 30)
    quotient = abs(product + nudge) >> 31  # C division truncates
    high = quotient if product + nudge >= 0 else -quotient
    mask = (1 << right_shift) - 1
    threshold = (mask >> 1) + (high < 0)
    return (high >> right_shift) + ((high & mask) > threshold)


def test_gemmlowp_rounding_is_that_of_tflite() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.integers(INT32_MIN, INT32_MAX, 4000),
                             rng.integers(-4000, 4000, 4000)])
    multipliers = rng.integers(1 << 30, 1 << 31, values.size)
    for right_shift in (0, 1, 5, 12, 24, 31):
        found = requantize(values, multipliers, 31 + right_shift, rounding=Rounding.GEMMLOWP,
                           multiplier_bits=31)
        expected = [max(-128, min(127, gemmlowp(int(value), int(multiplier), right_shift)))
                    for value, multiplier in zip(values, multipliers, strict=True)]
        assert found.tolist() == expected


def test_requantize_adds_the_zero_point_before_it_clips() -> None:
    found = requantize(np.array([-1000, -6, 0, 5, 1000]), 1, 1, rounding=Rounding.HALF_EVEN,
                       multiplier_bits=16, zero_point=-10, clip_min=-12, clip_max=100)
    assert found.tolist() == [-12, -12, -10, -8, 100]
    assert found.dtype == np.int8


def test_requantize_takes_parameters_per_channel() -> None:
    found = requantize(np.array([[8, 8], [-8, -8]]), np.array([1, 3]), np.array([2, 1]),
                       rounding=Rounding.HALF_UP, multiplier_bits=8)
    assert found.tolist() == [[2, 12], [-2, -12]]


def test_add_rounds_once() -> None:
    first, second = np.meshgrid(np.arange(-128, 128), np.arange(-128, 128))
    found = add(first, second, multiplier_first=3, multiplier_second=-5, offset=77, shift=4,
                rounding=Rounding.HALF_EVEN, zero_point=3)
    totals = 3 * first - 5 * second + 77
    expected = [max(-128, min(127, exact(int(total), 4, Rounding.HALF_EVEN) + 3))
                for total in totals.ravel()]
    assert found.ravel().tolist() == expected
