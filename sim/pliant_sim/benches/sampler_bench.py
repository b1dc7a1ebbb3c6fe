"""The sampler's walker against nested loops: random nests, back to back, with random stalls."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import cocotb
import numpy as np

from pliant.spec.memory import bank_of
from pliant_hw.walker import NEST, Walker
from pliant_sim.benches.signals import Unit, generator
from pliant_sim.benches.units import CONFIG, TAG_BITS

NESTS = 60
WALKER = Walker(config=CONFIG, tag=TAG_BITS)
NEST_LAYOUT = WALKER.nest.payload.shape()
POSITION_LAYOUT = WALKER.position.payload.shape()


def random_nest(random: np.random.Generator) -> dict[str, int]:
    """Return a nest of at most a few hundred positions with extreme addresses and origins."""
    nest = {name: int(random.integers(0, 1 << field.shape.width))
            for name, field in NEST if not field.shape.signed}
    far = random.random() < 0.3
    for axis in ("y", "x"):
        nest[f"origin_{axis}"] = int(random.integers(-2048, 2048) if far
                                     else random.integers(-6, 6))
    if not far:
        nest["height"], nest["width"] = (int(n) for n in random.integers(1, 20, 2))
    nest["groups"] = int(random.integers(1, 7))
    for name in ("outer_height", "outer_width", "inner_height", "inner_width"):
        nest[name] = int(random.integers(1, 5))
    return nest


def positions(nest: dict[str, int], tag: int) -> Iterator[dict[str, int]]:
    """Yield what the walker must yield."""
    shape = [nest[name] for name in ("groups", "outer_height", "outer_width", "inner_height",
                                     "inner_width")]
    for group, oy, ox, iy, ix in np.ndindex(*shape):
        y = nest["origin_y"] + oy * nest["outer_step_y"] + iy * nest["inner_step_y"]
        x = nest["origin_x"] + ox * nest["outer_step_x"] + ix * nest["inner_step_x"]
        inside = 0 <= y < nest["height"] and 0 <= x < nest["width"]
        position = {
            "inside": int(inside), "tag": tag,
            "inner_first": int((iy, ix) == (0, 0)),
            "first": int((group, oy, ox) == (0, 0, 0)),
            "last": int([group + 1, oy + 1, ox + 1, iy + 1, ix + 1] == shape),
        }
        if y >= 0 and x >= 0:  # rectangles have no bounds of their own
            start = nest["base"] + group * nest["group_stride"]
            address = start + (y >> 1) * nest["row_stride"] + (x >> 1)
            position |= {"bank": bank_of(start, y, x), "address": address % CONFIG.feature_depth}
        yield position


@cocotb.test()
@cocotb.parametrize(stall=[0.0, 0.4])
async def positions_equal_nested_loops(dut: Any, stall: float) -> None:
    """A position in every cycle that the consumer is ready, from the first to the last."""
    unit, random = Unit(dut, "walker"), generator()
    await unit.start(nest_valid=0, position_ready=0)
    nests = deque((random_nest(random), int(random.integers(1 << TAG_BITS)))
                  for _ in range(NESTS))
    expected = deque(position for nest, tag in nests for position in positions(nest, tag))
    total, bubbles, begun, taken = len(expected), 0, False, True
    while expected:
        if taken:  # offer the next nest
            unit.drive(nest_valid=bool(nests))
            if nests:
                constant = NEST_LAYOUT.const({"nest": nests[0][0], "tag": nests[0][1]})
                unit.drive(nest_payload=constant.as_value().value)
            taken = False
        # Registered outputs first, then the ready that depends on this cycle's inputs.
        if unit.read("position_valid"):
            begun = True
            ready = random.random() >= stall
            unit.drive(position_ready=ready)
            if ready:
                found = unit.read("position_payload")
                for name, value in expected.popleft().items():
                    field = POSITION_LAYOUT[name]
                    bits = found >> field.offset & ((1 << field.width) - 1)
                    assert bits == value, f"{name}, {len(expected)} of {total} left"
        else:
            bubbles += begun
        await unit.settle()
        if nests and unit.read("nest_ready"):
            nests.popleft()
            taken = True
        await unit.tick()
    assert not nests
    assert not bubbles, "the walker pauses between nests"
    assert not unit.read("position_valid")
