"""A matrix array against NumPy: random words, gaps, and swaps while the next tile loads.

The variable UNIT names the unit, ARRAY is JSON: rows, cols, latency, and the smallest weight. See
:func:`environment`.
"""

from __future__ import annotations

import json
import os
from collections import deque
from typing import Any

import cocotb
import numpy as np

from pliant.spec.numerics import INT8_MAX, INT8_MIN
from pliant_hw.array import Array
from pliant_sim.benches.signals import Unit, generator, pack, unpack

CYCLES = 3000
ACTIVATIONS = (INT8_MIN, INT8_MAX)


def environment(name: str, array: Array, smallest_weight: int) -> dict[str, str]:
    """Return the variables that tell this bench about the array called `name`."""
    return {"UNIT": name, "ARRAY": json.dumps({
        "rows": len(array.word), "cols": len(array.sums), "latency": array.latency,
        "sum_bits": len(array.sums.as_value()) // len(array.sums),
        "smallest_weight": smallest_weight})}


class Described:
    """The array under test, as the variables describe it."""

    def __init__(self) -> None:
        description = json.loads(os.environ["ARRAY"])
        self.name = os.environ["UNIT"]
        self.rows: int = description["rows"]
        self.cols: int = description["cols"]
        self.latency: int = description["latency"]
        self.sum_bits: int = description["sum_bits"]
        self.weights: tuple[int, int] = (description["smallest_weight"], INT8_MAX)


@cocotb.test()
async def sums_equal_numpy(dut: Any) -> None:
    """Random words with gaps; a tile is swapped in as soon as it is complete, or later."""
    array = Described()
    unit, random = Unit(dut, array.name), generator()
    await unit.start(valid=0, swap=0, weight_write=0)
    shadow = np.zeros((array.rows, array.cols), np.int64)
    active = shadow.copy()
    row = 0  # rows of the shadow tile that are written
    loaded = False  # the active tile is more than what was there at power-on
    expected: deque[list[int] | None] = deque([None] * array.latency)

    def draw(limits: tuple[int, int], shape: int) -> Any:
        """Return values within limits, in a tenth of the draws the limits themselves."""
        if random.random() < 0.1:
            return random.choice(np.array(limits, np.int8), shape)
        return random.integers(*limits, shape, np.int8, endpoint=True)

    for cycle in range(CYCLES):
        sums = expected.popleft()
        if sums is not None:
            found = unpack(unit.read("sums"), array.sum_bits, array.cols, signed=True)
            assert found == sums, f"cycle {cycle}"
        valid = random.random() < 0.8
        swap = valid and row == array.rows and random.random() < 0.5
        loaded |= swap
        write = row < array.rows and random.random() < 0.9
        word, weights = draw(ACTIVATIONS, array.rows), draw(array.weights, array.cols)
        unit.drive(
            valid=valid, swap=swap or (not valid and random.random() < 0.5), word=pack(word, 8),
            weight_write=write, weight_row=row % array.rows, weight_data=pack(weights, 8))
        if swap:
            active, row = shadow.copy(), 0
        if write:
            shadow[row] = weights
            row += 1
        expected.append([int(total) for total in word.astype(np.int64) @ active]
                        if valid and loaded else None)
        await unit.tick()


@cocotb.test()
async def the_largest_sums_fit(dut: Any) -> None:
    """Every product at an end of its range."""
    array = Described()
    unit = Unit(dut, array.name)
    await unit.start(valid=0, swap=0, weight_write=0)
    for weight in array.weights:
        for row in range(array.rows):
            unit.drive(weight_write=1, weight_row=row,
                       weight_data=pack([weight] * array.cols, 8))
            await unit.tick()
        unit.drive(weight_write=0)
        for activation in ACTIVATIONS:
            unit.drive(valid=1, swap=1, word=pack([activation] * array.rows, 8))
            await unit.tick()
            unit.drive(valid=0)
            for _ in range(array.latency - 1):
                await unit.tick()
            found = unpack(unit.read("sums"), array.sum_bits, array.cols, signed=True)
            assert found == [weight * activation * array.rows] * array.cols
