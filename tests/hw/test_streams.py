"""The queue between units: order, latency, and how full it says to be."""

from collections import deque
from typing import Any

import numpy as np
import pytest

from pliant_hw.streams import StreamQueue
from pliant_sim.benches.simulate import simulate


@pytest.mark.parametrize("depth", [1, 2, 3, 16])
def test_a_queue_is_first_in_first_out_and_knows_its_level(depth: int) -> None:
    dut = StreamQueue(8, depth=depth)
    random = np.random.default_rng(depth)
    held: deque[int] = deque()

    async def main(ctx: Any) -> None:
        longest = 0
        for cycle in range(600):
            eager = (0.9, 0.1, 0.5)[cycle // 200]
            offered, wanted = random.random() < eager, random.random() < 1 - eager
            value = int(random.integers(256))
            ctx.set(dut.input.valid, int(offered))
            ctx.set(dut.input.payload, value)
            ctx.set(dut.output.ready, int(wanted))
            assert ctx.get(dut.level) == len(held)
            assert ctx.get(dut.input.ready) == (len(held) < depth)
            assert ctx.get(dut.output.valid) == bool(held)
            if held:
                assert ctx.get(dut.output.payload) == held[0]
            full = len(held) == depth
            if held and wanted:
                held.popleft()
            if offered and not full:
                held.append(value)
            longest = max(longest, len(held))
            await ctx.tick()
        assert longest == depth

    simulate(dut, main)
