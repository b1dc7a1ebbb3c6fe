"""The integer definition of a sample against fractions, one pixel at a time."""

from fractions import Fraction

import numpy as np
import pytest

from pliant.spec.sampling import FRACTION_BITS, Offsets, Sampling, displacement, sample


@pytest.mark.parametrize("seed", range(5))
def test_a_sample_is_the_bilinear_value_rounded_once(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.integers(-128, 128, (1, 5, 6, 3)).astype(np.int8)
    rows, columns = (random.integers(-40, 140, (1, 4, 4)) for _ in range(2))
    mask = random.integers(-128, 128, (1, 4, 4)).astype(np.int8)
    zero_point = int(random.integers(-128, 128))
    found = sample(values, rows, columns, zero_point=zero_point, mask=mask)
    for y, x, channel in np.ndindex(4, 4, 3):
        at = Fraction(int(rows[0, y, x]), 16), Fraction(int(columns[0, y, x]), 16)
        total = Fraction(0)
        for row, column in np.ndindex(5, 6):
            weight = (max(Fraction(0), 1 - abs(at[0] - row))
                      * max(Fraction(0), 1 - abs(at[1] - column)))
            total += weight * (int(values[0, row, column, channel]) - zero_point)
        factor = Fraction(int(mask[0, y, x]) + 128, 128)
        expected = min(max(round(total * factor) + zero_point, -128), 127)
        assert found[0, y, x, channel] == expected


def test_without_interpolation_half_a_pixel_rounds_up() -> None:
    values = np.arange(4, dtype=np.int8).reshape(1, 1, 4, 1)
    columns = np.array([7, 8, 9, 23, 24, -8, -9]).reshape(1, 1, -1)
    found = sample(values, np.zeros_like(columns), columns, zero_point=-1, interpolate=False)
    assert found.reshape(-1).tolist() == [0, 1, 1, 1, 2, 0, -1]


def test_one_scale_spreads_the_taps_around_the_centre() -> None:
    sampling = Sampling(offsets=Offsets.SCALED, minimum=-128, maximum=112)
    offsets = np.array([[[16]], [[120]]], np.int8)[:, None, 0]
    for ky, kx in np.ndindex(3, 3):
        rows, columns = displacement(sampling, offsets.reshape(2, 1, 1, 1), (3, 3), ky, kx)
        assert rows.reshape(-1).tolist() == [16 * (ky - 1), 112 * (ky - 1)]
        assert columns.reshape(-1).tolist() == [16 * (kx - 1), 112 * (kx - 1)]


@pytest.mark.parametrize("bits", range(FRACTION_BITS + 1))
@pytest.mark.parametrize("interpolate", [True, False])
@pytest.mark.parametrize("offsets", [Offsets.SCALED, Offsets.PER_TAP])
def test_no_tap_passes_the_reach(offsets: Offsets, interpolate: bool, bits: int) -> None:
    random = np.random.default_rng(bits)
    for _ in range(20):
        low, high = sorted(int(bound) for bound in random.integers(-128, 128, 2))
        sampling = Sampling(offsets=offsets, fraction_bits=bits, minimum=low, maximum=high,
                            interpolate=interpolate)
        kernel = 5 if offsets is Offsets.SCALED else 2
        sides = kernel, kernel
        given = np.arange(-128, 128, dtype=np.int8).reshape(1, 1, 1, -1)
        given = np.repeat(given, sampling.offset_channels(sides), axis=1)
        moves = np.concatenate([
            part.reshape(-1) for ky, kx in np.ndindex(*sides)
            for part in displacement(sampling, given, sides, ky, kx)])
        if not interpolate:
            moves = (moves + 8) >> 4 << 4
        before, behind = sampling.reach(kernel)
        assert -before <= moves.min() / 16
        assert np.ceil(moves.max() / 16) <= behind
