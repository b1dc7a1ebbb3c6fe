"""The walker of rectangles against nested loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pliant.spec.config import FEATURE_BANKS, PRESETS
from pliant.spec.memory import bank_of
from pliant_hw.layouts import feature_address_bits
from pliant_hw.rectangle import RECTANGLE, RectangleWalker
from pliant_sim.benches.simulate import simulate

CONFIG = PRESETS["tiny"]
Rectangle = dict[str, int]


def random_rectangle(random: np.random.Generator) -> Rectangle:
    """Return a small rectangle with large coordinates and strides, its sides often 1."""
    rectangle = {name: int(random.integers(0, 1 << RECTANGLE[name].width))
                 for name in ("base", "group_stride", "row_stride", "y", "x")}
    rectangle["pixels"] = 0
    if random.random() < 0.3:  # blocks
        rectangle |= {name: rectangle[name] & ~1 for name in ("y", "x")}
        rectangle["pixels"] = int(random.integers(1, 16))
    rectangle["by_pixel"] = int(random.random() < 0.5)
    return rectangle | {name: int(random.integers(1, high + 1)) if random.random() < 0.7 else 1
                        for name, high in (("groups", 3), ("height", 4), ("width", 5))}


def places(rectangle: Rectangle) -> list[tuple[int, int, int, int]]:
    """Return bank, address, `last` and banks of `pixels` of every pixel or block, in order."""
    found = []
    pixels = rectangle["pixels"]
    step = 2 if pixels else 1
    counts = rectangle["groups"], rectangle["height"], rectangle["width"]
    steps = list(np.ndindex(*counts))
    if rectangle["by_pixel"]:
        steps.sort(key=lambda at: (*at[1:], at[0]))
    for group, row, column in steps:
        y, x = rectangle["y"] + step * row, rectangle["x"] + step * column
        start = rectangle["base"] + group * rectangle["group_stride"]
        address = start + (y >> 1) * rectangle["row_stride"] + (x >> 1)
        banks = sum((pixels >> pixel & 1) << bank_of(start, pixel >> 1, pixel & 1)
                    for pixel in range(FEATURE_BANKS))
        found.append((bank_of(start, y, x), address % (1 << feature_address_bits(CONFIG)), 0,
                      banks))
    found[-1] = (*found[-1][:2], 1, found[-1][3])
    return found


@pytest.mark.parametrize("stall", [0.0, 0.6])
def test_places_equal_nested_loops_without_a_bubble(stall: float) -> None:
    random = np.random.default_rng(1)
    rectangles = [random_rectangle(random) for _ in range(150)]
    expected = [place for rectangle in rectangles for place in places(rectangle)]
    dut = RectangleWalker(config=CONFIG)
    cycles: list[int] = []

    async def feed(ctx: Any) -> None:
        ctx.set(dut.rectangle.valid, 1)
        for rectangle in rectangles:
            ctx.set(dut.rectangle.payload, rectangle)
            await ctx.tick().until(dut.rectangle.ready)
        ctx.set(dut.rectangle.valid, 0)

    async def check(ctx: Any) -> None:
        cycle = 0
        for place in expected:
            taken = False
            while not taken:
                ready = random.random() >= stall
                ctx.set(dut.place.ready, int(ready))
                _, _, valid, payload = await ctx.tick().sample(
                    dut.place.valid, dut.place.payload)
                taken = bool(valid) and ready
                cycle += 1
            cycles.append(cycle)
            assert (payload.bank, payload.address, payload.last, payload.pixels) == place

    simulate(dut, feed, check)
    assert len(cycles) == len(expected)
    if not stall:
        assert cycles[-1] - cycles[0] == len(expected) - 1
