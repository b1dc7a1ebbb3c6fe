"""A matrix array against NumPy: random words, gaps, and swaps while the next tile loads.

The variable ARRAY names the unit; one other than the plain array gets weights of narrow range.
"""

from __future__ import annotations

import os
from collections import deque
from typing import Any

import cocotb
import numpy as np

from pliant.spec.numerics import INT8_MAX, INT8_MIN, WEIGHT_MAX, WEIGHT_MIN
from pliant_hw.array import sum_shape
from pliant_sim.benches.signals import Unit, generator, pack, unpack
from pliant_sim.benches.units import CONFIG, ComputeUnits

CYCLES = 3000
SUM_BITS = sum_shape(CONFIG).width
NAME = os.environ["ARRAY"]
ARRAY: Any = ComputeUnits().units[NAME]
ACTIVATIONS = (INT8_MIN, INT8_MAX)
WEIGHTS = ACTIVATIONS if NAME == "array" else (WEIGHT_MIN, WEIGHT_MAX)


@cocotb.test()
async def sums_equal_numpy(dut: Any) -> None:
    """Random words with gaps; a tile is swapped in as soon as it is complete, or later."""
    unit, random = Unit(dut, NAME), generator()
    await unit.start(valid=0, swap=0, weight_write=0)
    shadow = np.zeros((CONFIG.rows, CONFIG.cols), np.int64)
    active = shadow.copy()
    row = 0  # rows of the shadow tile that are written
    loaded = False  # the active tile is more than what was there at power-on
    expected: deque[list[int] | None] = deque([None] * ARRAY.latency)

    def draw(limits: tuple[int, int], shape: int) -> Any:
        """Return values within limits, in a tenth of the draws the limits themselves."""
        if random.random() < 0.1:
            return random.choice(np.array(limits, np.int8), shape)
        return random.integers(*limits, shape, np.int8, endpoint=True)

    for cycle in range(CYCLES):
        sums = expected.popleft()
        if sums is not None:
            found = unpack(unit.read("sums"), SUM_BITS, CONFIG.cols, signed=True)
            assert found == sums, f"cycle {cycle}"
        valid = random.random() < 0.8
        swap = valid and row == CONFIG.rows and random.random() < 0.5
        loaded |= swap
        write = row < CONFIG.rows and random.random() < 0.9
        word, weights = draw(ACTIVATIONS, CONFIG.rows), draw(WEIGHTS, CONFIG.cols)
        unit.drive(
            valid=valid, swap=swap or (not valid and random.random() < 0.5), word=pack(word, 8),
            weight_write=write, weight_row=row % CONFIG.rows, weight_data=pack(weights, 8))
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
    unit = Unit(dut, NAME)
    await unit.start(valid=0, swap=0, weight_write=0)
    for weight in WEIGHTS:
        for row in range(CONFIG.rows):
            unit.drive(weight_write=1, weight_row=row,
                       weight_data=pack([weight] * CONFIG.cols, 8))
            await unit.tick()
        unit.drive(weight_write=0)
        for activation in ACTIVATIONS:
            unit.drive(valid=1, swap=1, word=pack([activation] * CONFIG.rows, 8))
            await unit.tick()
            unit.drive(valid=0)
            for _ in range(ARRAY.latency - 1):
                await unit.tick()
            found = unpack(unit.read("sums"), SUM_BITS, CONFIG.cols, signed=True)
            assert found == [weight * activation * CONFIG.rows] * CONFIG.cols
