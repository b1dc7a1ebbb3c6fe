from __future__ import annotations

import dataclasses
import random
from functools import partial
from typing import Any

import pytest

from pliant.spec.config import AcceleratorConfig, preset
from pliant.spec.isa import INSTRUCTION_BYTES
from pliant.spec.registers import Fault, FaultUnit
from pliant_hw.axi import Response
from pliant_hw.fetch import FetchUnit
from pliant_sim.benches.axi_memory import AxiMemory
from pliant_sim.benches.simulate import simulate

TINY = preset("tiny")
CONFIGS = {
    "4": dataclasses.replace(TINY, axi_data_bytes=4),
    "8": TINY,
    "16": preset("pynq_z2"),
    "64": preset("kv260"),
    "128": dataclasses.replace(preset("kv260"), rows=64, cols=128, axi_data_bytes=128),
}
BASE = 0x3_0000_0000
SIZE = 1 << 14


def new_memory(config: AcceleratorConfig, **options: Any) -> AxiMemory:
    data = bytearray(random.Random(7).randbytes(SIZE))
    return AxiMemory(config=config, data=data, base=BASE, **options)


async def start(ctx: Any, dut: FetchUnit, offset: int, length: int) -> None:
    ctx.set(dut.window_base, BASE)
    ctx.set(dut.window_limit, BASE + SIZE)
    ctx.set(dut.program_base, BASE + offset)
    ctx.set(dut.program_length, length)
    ctx.set(dut.start, 1)
    await ctx.tick()
    ctx.set(dut.start, 0)


async def take(ctx: Any, dut: FetchUnit, count: int, rng: random.Random) -> list[tuple[int, int]]:
    words: list[tuple[int, int]] = []
    for _ in range(200 * count + 200):
        if len(words) == count:
            ctx.set(dut.program.ready, 0)
            return words
        ctx.set(dut.program.ready, rng.random() < 0.6)
        *_, valid, ready, word = await ctx.tick().sample(
            dut.program.valid, dut.program.ready, dut.program.payload
        )
        if valid and ready:
            words.append((word.index, word.word))
    raise AssertionError(f"{len(words)} of {count} words came")


@pytest.mark.parametrize("length", [1, 7, 30])
@pytest.mark.parametrize("name", CONFIGS)
def test_fetch_yields_the_program_in_order_then_is_exhausted(name: str, length: int) -> None:
    config = CONFIGS[name]
    dut = FetchUnit(config=config)
    memory = new_memory(config, seed=length)
    offset = 0xFC0 // config.axi_data_bytes * config.axi_data_bytes

    async def bench(ctx: Any) -> None:
        await start(ctx, dut, offset, length)
        assert not ctx.get(dut.exhausted)
        words = await take(ctx, dut, length, random.Random(length))
        for index, (found_index, word) in enumerate(words):
            begin = offset + index * INSTRUCTION_BYTES
            expected = memory.data[begin:begin + INSTRUCTION_BYTES]
            assert found_index == index
            assert word == int.from_bytes(expected, "little")
        await ctx.tick().repeat(50)
        assert ctx.get(dut.exhausted)
        assert not ctx.get(dut.program.valid)
        assert ctx.get(dut.idle)
        assert not ctx.get(dut.fault.valid)

    simulate(dut, bench, background=[partial(memory.serve_reads, bus=dut.axi)])
    assert {axi_id for axi_id, *_ in memory.reads} == {0}
    blocks = -(-length * INSTRUCTION_BYTES // max(INSTRUCTION_BYTES, config.axi_data_bytes))
    size = max(INSTRUCTION_BYTES, config.axi_data_bytes) // config.axi_data_bytes
    assert memory.read_beats == blocks * size


@pytest.mark.parametrize("name", CONFIGS)
def test_fetch_never_blocks_the_read_channel_when_nobody_takes_words(name: str) -> None:
    config = CONFIGS[name]
    dut = FetchUnit(config=config)
    memory = new_memory(config, stall=0)
    blocked = 0

    async def bench(ctx: Any) -> None:
        await start(ctx, dut, 0, 100)
        await ctx.tick().repeat(600)
        assert ctx.get(dut.idle)
        assert ctx.get(dut.program.valid)

    async def watch(ctx: Any) -> None:
        nonlocal blocked
        while True:
            *_, valid, ready = await ctx.tick().sample(dut.axi.r.valid, dut.axi.r.ready)
            blocked += valid and not ready

    simulate(dut, bench, background=[partial(memory.serve_reads, bus=dut.axi), watch])
    assert blocked == 0
    assert memory.read_beats * config.axi_data_bytes >= 4 * INSTRUCTION_BYTES


@pytest.mark.parametrize("after", range(0, 120, 13))
def test_stopped_fetch_offers_nothing_and_drains(after: int) -> None:
    dut = FetchUnit(config=TINY)
    memory = new_memory(TINY, seed=after)

    async def bench(ctx: Any) -> None:
        await start(ctx, dut, 0, 100)
        ctx.set(dut.program.ready, 1)
        for _ in range(after):
            await ctx.tick()
        ctx.set(dut.stop, 1)
        issued = len(memory.reads)
        await ctx.tick()
        ctx.set(dut.stop, 0)
        for _ in range(500):
            assert not ctx.get(dut.program.valid)
            await ctx.tick()
        assert ctx.get(dut.idle)
        # One that was offered, one that the memory's bench had not counted yet.
        assert len(memory.reads) <= issued + 2

    simulate(dut, bench, background=[partial(memory.serve_reads, bus=dut.axi)])
    assert memory.read_beats == sum(beats for *_, beats in memory.reads)


@pytest.mark.parametrize(("offset", "respond", "code", "index", "address"), [
    (SIZE - 3 * 64, Response.OKAY, Fault.ADDRESS, 3, BASE + SIZE),
    (4, Response.OKAY, Fault.ADDRESS, 0, BASE + 4),
    (0, Response.DECERR, Fault.AXI_READ, 0, BASE),
])
def test_faults_name_the_instruction_that_could_not_be_read(
    offset: int, respond: Response, code: Fault, index: int, address: int
) -> None:
    dut = FetchUnit(config=TINY)
    memory = new_memory(TINY, respond=lambda at: respond)

    async def bench(ctx: Any) -> None:
        await start(ctx, dut, offset, 10)
        ctx.set(dut.program.ready, 1)
        for _ in range(500):
            if ctx.get(dut.fault.valid):
                break
            await ctx.tick()
        assert ctx.get(dut.fault.valid)
        assert ctx.get(dut.fault.code) == code.value
        assert ctx.get(dut.fault.unit) == FaultUnit.FETCH.value
        assert ctx.get(dut.fault.index) == index
        assert ctx.get(dut.fault.address) == address

    simulate(dut, bench, background=[partial(memory.serve_reads, bus=dut.axi)])
