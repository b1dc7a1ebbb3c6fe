from __future__ import annotations

import random
from functools import partial
from typing import Any

import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from pliant.spec.config import preset
from pliant.spec.registers import FaultUnit
from pliant_hw.axi import FETCH_ID, LOAD_ID, AxiReadSignature, ReadArbiter
from pliant_hw.dma import DmaReader
from pliant_sim.benches.axi_memory import AxiMemory
from pliant_sim.benches.simulate import simulate

CONFIG = preset("tiny")
SIZE = 1 << 14


class TwoReaders(wiring.Component):
    """Fetch and load engines behind the arbiter."""

    bus: Any

    def __init__(self) -> None:
        super().__init__({"bus": Out(AxiReadSignature(CONFIG))})
        self.readers = [
            DmaReader(config=CONFIG, unit=unit, axi_id=axi_id)
            for unit, axi_id in ((FaultUnit.FETCH, FETCH_ID), (FaultUnit.LOAD, LOAD_ID))
        ]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.arbiter = arbiter = ReadArbiter(config=CONFIG)
        m.submodules.fetch, m.submodules.load = self.readers
        wiring.connect(m, self.readers[0].axi, arbiter.fetch)
        wiring.connect(m, self.readers[1].axi, arbiter.load)
        wiring.connect(m, arbiter.bus, wiring.flipped(self.bus))
        return m


@pytest.mark.parametrize("stall", [0, 0.4])
@pytest.mark.parametrize("seed", range(3))
def test_two_masters_get_their_own_data_from_a_memory_that_interleaves(
    seed: int, stall: float
) -> None:
    dut = TwoReaders()
    memory = AxiMemory(config=CONFIG, data=bytearray(random.Random(3).randbytes(SIZE)),
                       seed=seed, stall=stall)
    overtaken = 0

    async def master(ctx: Any, number: int) -> None:
        reader, rng = dut.readers[number], random.Random(10 * seed + number)
        ctx.set(reader.window_limit, SIZE)
        expected: list[int] = []
        for _ in range(30):
            beats = rng.randint(1, 20)
            address = 8 * rng.randrange(SIZE // 8 - beats)
            expected += [memory._word(address + 8 * beat) for beat in range(beats)]
            ctx.set(reader.runs.payload, {"address": address, "beats": beats})
            ctx.set(reader.runs.valid, 1)
            taken = False
            while not taken:
                ctx.set(reader.beats.ready, rng.random() < 0.8)
                *_, taken, moved, beat = await ctx.tick().sample(
                    reader.runs.ready, reader.beats.valid & reader.beats.ready,
                    reader.beats.payload,
                )
                if moved:
                    assert beat.data == expected.pop(0)
            ctx.set(reader.runs.valid, 0)
        ctx.set(reader.beats.ready, 1)
        for _ in range(5000):
            if not expected:
                return
            *_, valid, beat = await ctx.tick().sample(reader.beats.valid, reader.beats.payload)
            if valid:
                assert beat.data == expected.pop(0)
        raise AssertionError(f"{len(expected)} beats are missing")

    async def watch(ctx: Any) -> None:
        nonlocal overtaken
        open_burst: int | None = None
        while True:
            *_, moved, beat = await ctx.tick().sample(
                dut.bus.r.valid & dut.bus.r.ready, dut.bus.r.payload
            )
            if moved:
                overtaken += open_burst not in (None, beat.id)
                open_burst = None if beat.last else beat.id

    simulate(dut, partial(master, number=0), partial(master, number=1),
             background=[partial(memory.serve_reads, bus=dut.bus), watch])
    assert overtaken > 0  # the memory did interleave
