"""The requantizer and the residual adder against the numerics of the contract."""

from __future__ import annotations

import dataclasses
from typing import Any

import cocotb
import numpy as np
from numpy.typing import NDArray

from pliant.spec.numerics import (
    INT8_MAX,
    INT8_MIN,
    INT32_MAX,
    INT32_MIN,
    MAX_SHIFT,
    Rounding,
    add,
    requantize,
)
from pliant_hw.requantizer import REQUANTIZER_LATENCY, parameter_layout
from pliant_hw.residual import ADDER_LATENCY
from pliant_sim.benches.signals import Unit, generator, pack, unpack
from pliant_sim.benches.units import CONFIG, MULTIPLIER_BITS

BURSTS = 24
WORDS = 80
LANES = CONFIG.lanes
Integers = NDArray[np.int64]


def random_limits(random: np.random.Generator) -> tuple[int, int]:
    """Return clip bounds, the full range in half of the draws."""
    if random.random() < 0.5:
        return INT8_MIN, INT8_MAX
    low, high = sorted(int(value) for value in random.integers(-128, 128, 2))
    return low, high


def near_ties(
    random: np.random.Generator, bits: int, shape: tuple[int, int]
) -> tuple[Integers, Integers, Integers]:
    """Return int32 sums, multipliers and shifts; most products are on, or next to, a tie."""
    multiplier = random.integers(0, 1 << bits, shape)
    power = random.integers(0, bits, shape)
    exact = random.random(shape) < 0.6  # a power of two meets ties exactly
    multiplier = np.where(exact, np.int64(1) << power, multiplier)
    shift = np.where(exact, power, bits) + random.integers(0, MAX_SHIFT + 1, shape)
    shift = np.minimum(shift, MAX_SHIFT)
    # The real result aimed at is a small multiple of one half.
    target = random.integers(-320, 321, shape) / 2
    with np.errstate(divide="ignore"):
        total = np.floor(target * 2.0 ** shift / np.maximum(multiplier, 1))
    total += random.integers(-1, 2, shape) * (random.random(shape) < 0.5)
    wild = random.random(shape) < 0.15
    total = np.where(wild, random.integers(INT32_MIN, INT32_MAX, shape, endpoint=True), total)
    ends = random.random(shape) < 0.05
    total = np.where(ends, random.choice([INT32_MIN, INT32_MAX], shape), total)
    return np.clip(total, INT32_MIN, INT32_MAX).astype(np.int64), multiplier, shift


@cocotb.test()
@cocotb.parametrize(bits=MULTIPLIER_BITS, rounding=list(Rounding))
async def words_equal_requantize(dut: Any, bits: int, rounding: Rounding) -> None:
    """Ties and their neighbours, saturation, ends of the ranges, shifts up to MAX_SHIFT."""
    unit, random = Unit(dut, f"requantizer{bits}"), generator()
    await unit.start(valid=0, load=1)
    await _warm_up(unit, random, "values", "parameters")
    layout = parameter_layout(dataclasses.replace(CONFIG, multiplier_bits=bits))
    for _ in range(BURSTS // len(Rounding)):
        total, multiplier, shift = near_ties(random, bits, (WORDS, LANES))
        bias = random.integers(-1 << 20, 1 << 20, total.shape)
        value = np.clip(total - bias, INT32_MIN, INT32_MAX)
        bias = total - value  # so that no sum leaves 32 bits
        zero_point = int(random.integers(-128, 128))
        low, high = random_limits(random)
        expected = requantize(
            total, multiplier, shift, rounding=rounding, multiplier_bits=bits,
            zero_point=zero_point, clip_min=low, clip_max=high)
        unit.drive(rounding=rounding, zero_point=zero_point & 255, clip_min=low & 255,
                   clip_max=high & 255)
        records = (bias & 0xFFFF_FFFF) | multiplier.astype(object) << 32 | (
            shift.astype(object) << (32 + bits))
        await _stream(
            unit, random, REQUANTIZER_LATENCY, expected,
            values=[pack(row, 32) for row in value],
            parameters=[pack(row, layout.size) for row in records])


@cocotb.test()
@cocotb.parametrize(rounding=list(Rounding))
async def words_equal_add(dut: Any, rounding: Rounding) -> None:
    """Random, extreme and tied sums; words pass unchanged while `enable` is low."""
    unit, random = Unit(dut, "adder"), generator()
    await unit.start(valid=0, enable=1, shift=1, load=1)
    await _warm_up(unit, random, "words", "residuals")
    for burst in range(BURSTS):
        words, residuals = random.integers(-128, 128, (2, WORDS, LANES))
        extreme = burst % 6 == 5
        first, second = (int(n) for n in (
            random.choice([-256, 255], 2) if extreme else random.integers(-256, 256, 2)))
        shift = int(random.integers(32 if extreme else 14))
        offset = int(random.choice([-1 << 19, (1 << 19) - 1]) if extreme
                     else random.integers(-1 << 14, 1 << 14))
        zero_point, enable = int(random.integers(-128, 128)), burst % 8 != 7
        low, high = random_limits(random)
        if burst % 2 and not extreme:  # sums that are ties often
            first, second = (1 << int(n) for n in random.integers(0, 8, 2))
            offset &= ~0 << max(shift - 1, 0)
        expected = words.astype(np.int8)
        if enable:
            expected = add(
                words, residuals, multiplier_first=first, multiplier_second=second,
                offset=offset, shift=shift, rounding=rounding, zero_point=zero_point,
                clip_min=low, clip_max=high)
        unit.drive(
            enable=enable, multiplier=first & 511, residual_multiplier=second & 511,
            offset=offset & 0xF_FFFF, shift=shift, rounding=rounding,
            zero_point=zero_point & 255, clip_min=low & 255, clip_max=high & 255)
        await _stream(unit, random, ADDER_LATENCY, expected,
                      words=[pack(row, 8) for row in words],
                      residuals=[pack(row, 8) for row in residuals])


async def _warm_up(unit: Unit, random: np.random.Generator, *inputs: str) -> None:
    """Send random words through.

    Icarus evaluates an ``always @*`` block of Yosys only after one of its inputs has changed.
    """
    for cycle in range(64):
        unit.drive(valid=1, rounding=cycle // 20 % len(Rounding))
        for name in inputs:
            width = len(getattr(unit, name))
            bits = int.from_bytes(random.bytes(64), "little") & ((1 << width) - 1)
            unit.drive(**{name: bits})
        await unit.tick()
    unit.drive(valid=0)
    for _ in range(REQUANTIZER_LATENCY):
        await unit.tick()


async def _stream(
    unit: Unit, random: np.random.Generator, latency: int, expected: NDArray[np.int8],
    **inputs: list[int],
) -> None:
    """Feed words with gaps; compare each result, `latency` cycles after its word."""
    history: list[int | None] = [None] * latency  # index of the word that entered, by cycle
    fed = compared = 0
    await unit.tick()  # the controls are loaded
    while compared < len(expected):
        due = history[-latency]
        assert unit.read("out_valid") == (due is not None)
        if due is not None:
            found = unpack(unit.read("results"), 8, LANES, signed=True)
            assert found == [int(value) for value in expected[due]], (
                f"word {due}: {({name: hex(words[due]) for name, words in inputs.items()})}")
            compared += 1
        valid = fed < len(expected) and random.random() < 0.9
        unit.drive(valid=valid)
        if valid:
            unit.drive(**{name: words[fed] for name, words in inputs.items()})
        history.append(fed if valid else None)
        fed += valid
        await unit.tick()
