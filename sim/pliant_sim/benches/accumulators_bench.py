"""The accumulators against NumPy: additions into one bank while the other is read."""

from __future__ import annotations

from collections import deque
from typing import Any

import cocotb
import numpy as np

from pliant.spec.config import ACCUMULATE_DISTANCE
from pliant_hw.accumulators import ACCUMULATOR_READ_LATENCY
from pliant_hw.array import sum_shape
from pliant_sim.benches.signals import Unit, generator, pack, unpack
from pliant_sim.benches.units import CONFIG

ROUNDS = 40
ADDITIONS = 60
SUM_BITS = sum_shape(CONFIG).width


@cocotb.test()
async def totals_equal_numpy(dut: Any) -> None:
    """The banks change places each round; an entry returns after ACCUMULATE_DISTANCE cycles."""
    unit, random = Unit(dut, "accumulators"), generator()
    await unit.start(add_valid=0, read_valid=0)
    depth, lanes = CONFIG.accumulator_depth, CONFIG.lanes
    totals = np.zeros((2, depth, CONFIG.cols), np.int32)
    known = np.zeros((2, depth), bool)
    high = 1 << (SUM_BITS - 1)
    for turn in range(ROUNDS):
        filled, emptied = turn & 1, ~turn & 1
        recent: deque[int] = deque(maxlen=ACCUMULATE_DISTANCE - 1)
        expected: deque[Any] = deque([None] * ACCUMULATOR_READ_LATENCY)
        sums = np.zeros(CONFIG.cols, np.int64)
        for _ in range(ADDITIONS):
            values = expected.popleft()
            if values is not None:
                found = unpack(unit.read("values"), 32, lanes, signed=True)
                assert found == values, f"round {turn}"
            # The sums of an addition come one cycle after its announcement.
            unit.drive(sums=pack(sums, SUM_BITS))
            entry = int(random.integers(depth))
            valid = bool(random.random() < 0.9) and entry not in recent
            overwrite = bool(random.random() < 0.2) or not known[filled, entry]
            unit.drive(add_valid=valid, add_bank=filled, add_entry=entry, add_overwrite=overwrite)
            if valid:
                sums = random.integers(-high, high, CONFIG.cols)
                old = totals[filled, entry].astype(np.int64) * (not overwrite)
                totals[filled, entry] = (old + sums).astype(np.int32)
                known[filled, entry] = True
            recent.append(entry if valid else -1)
            entry, group = int(random.integers(depth)), int(random.integers(
                CONFIG.groups_per_tile))
            valid = bool(random.random() < 0.8) and bool(known[emptied, entry])
            unit.drive(read_valid=valid, read_bank=emptied, read_entry=entry, read_group=group)
            part = totals[emptied, entry, group * lanes:(group + 1) * lanes]
            expected.append([int(value) for value in part] if valid else None)
            await unit.tick()
        unit.drive(add_valid=0, read_valid=0, sums=pack(sums, SUM_BITS))
        for _ in range(ACCUMULATE_DISTANCE):
            await unit.tick()
