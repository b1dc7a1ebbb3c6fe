from __future__ import annotations

import dataclasses
import random
from functools import partial
from typing import Any

import pytest

from pliant.spec.config import AcceleratorConfig, preset
from pliant.spec.registers import Fault, FaultUnit
from pliant_hw.axi import Response
from pliant_hw.dma import DmaReader, DmaWriter
from pliant_sim.benches.axi_memory import AxiMemory
from pliant_sim.benches.simulate import simulate

TINY = preset("tiny")
CONFIGS = [
    TINY,
    preset("pynq_z2"),
    preset("kv260"),
    dataclasses.replace(TINY, axi_burst_beats=256, axi_outstanding=1),
    dataclasses.replace(TINY, axi_burst_beats=2, axi_outstanding=2),
]
IDS = ["tiny", "pynq_z2", "kv260", "long", "short"]
BASE = 0x12_3400_0000
SIZE = 1 << 15

Runs = list[tuple[int, int]]


def memory_for(config: AcceleratorConfig, **options: Any) -> AxiMemory:
    content = bytearray(random.Random(1).randbytes(SIZE))
    return AxiMemory(config=config, data=content, base=BASE, **options)


def random_runs(config: AcceleratorConfig, rng: random.Random, count: int) -> Runs:
    limit = SIZE // config.axi_data_bytes
    runs = []
    for _ in range(count):
        beats = min(rng.choice([1, 2, 3, 15, 16, 17, 40, 70]), limit)
        start = rng.randrange(limit - beats + 1)
        runs.append((BASE + start * config.axi_data_bytes, beats))
    return runs


async def ticks_until(ctx: Any, condition: Any, limit: int) -> int:
    for count in range(limit):
        if ctx.get(condition):
            return count
        await ctx.tick()
    raise AssertionError(f"{condition!r} did not hold within {limit} cycles")


async def send_runs(ctx: Any, dut: Any, runs: Runs) -> None:
    for index, (address, beats) in enumerate(runs):
        ctx.set(dut.runs.payload, {
            "address": address, "beats": beats, "last": index == len(runs) - 1, "index": index,
        })
        ctx.set(dut.runs.valid, 1)
        await ctx.tick().until(dut.runs.ready)
    ctx.set(dut.runs.valid, 0)


def open_window(ctx: Any, dut: Any, base: int = BASE, limit: int = BASE + SIZE) -> None:
    ctx.set(dut.window_base, base)
    ctx.set(dut.window_limit, limit)


def expected_words(memory: AxiMemory, runs: Runs) -> list[int]:
    size = memory.config.axi_data_bytes
    return [memory._word(address + beat * size) for address, beats in runs for beat in range(beats)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_reader_returns_runs_in_order_under_random_stalls(
    config: AcceleratorConfig, seed: int
) -> None:
    rng = random.Random(seed)
    dut = DmaReader(config=config, unit=FaultUnit.LOAD, axi_id=1)
    memory = memory_for(config, seed=seed, stall=rng.choice([0, 0.3, 0.7]))
    runs = random_runs(config, rng, 20)
    words: list[int] = []
    lasts: list[int] = []

    async def feed(ctx: Any) -> None:
        open_window(ctx, dut)
        await send_runs(ctx, dut, runs)

    async def collect(ctx: Any) -> None:
        total = sum(beats for _, beats in runs)
        while len(words) < total:
            ctx.set(dut.beats.ready, rng.random() < 0.7)
            *_, valid, ready, beat = await ctx.tick().sample(
                dut.beats.valid, dut.beats.ready, dut.beats.payload
            )
            if valid and ready:
                words.append(beat.data)
                lasts.append(beat.last)
        await ctx.tick().repeat(3)
        assert ctx.get(dut.idle)
        assert not ctx.get(dut.fault.valid)

    async def bound(ctx: Any) -> None:
        while True:
            await ctx.tick()
            outstanding = len(memory.reads) - finished(memory)
            assert outstanding <= config.axi_outstanding

    simulate(dut, feed, collect,
             background=[partial(memory.serve_reads, bus=dut.axi), bound])
    assert words == expected_words(memory, runs)
    assert lasts == [0] * (len(words) - 1) + [1]
    assert {axi_id for axi_id, *_ in memory.reads} == {1}


def finished(memory: AxiMemory) -> int:
    done, beats = 0, 0
    for *_, length in memory.reads:
        beats += length
        if beats > memory.read_beats:
            break
        done += 1
    return done


@pytest.mark.parametrize("beats", [1, 16])
def test_reader_sustains_one_short_run_each_cycle(beats: int) -> None:
    config = dataclasses.replace(preset("pynq_z2"), axi_outstanding=64)
    dut = DmaReader(config=config, unit=FaultUnit.LOAD, axi_id=0)
    memory = memory_for(config, stall=0, latency=(20, 20))
    runs = [(BASE + index * beats * 16, beats) for index in range(60)]
    times: list[int] = []

    async def feed(ctx: Any) -> None:
        open_window(ctx, dut)
        await send_runs(ctx, dut, runs)

    async def collect(ctx: Any) -> None:
        ctx.set(dut.beats.ready, 1)
        cycle = 0
        while len(times) < 60 * beats:
            *_, valid = await ctx.tick().sample(dut.beats.valid)
            if valid:
                times.append(cycle)
            cycle += 1

    simulate(dut, feed, collect, background=[partial(memory.serve_reads, bus=dut.axi)])
    assert times[-1] - times[0] == 60 * beats - 1
    assert len(memory.reads) == 60


@pytest.mark.parametrize(("address", "beats", "allowed"), [
    (BASE + 0x100, 32, True),
    (BASE + 0x0F8, 1, False),
    (BASE + 0x100, 33, False),
    (BASE + 0x200, 1, False),
    (BASE + 0x104, 1, False),
    ((1 << 40) - 8, 2, False),
    (0, 1, False),
])
@pytest.mark.parametrize("writes", [False, True])
def test_runs_outside_the_window_are_refused_with_their_address(
    address: int, beats: int, allowed: bool, writes: bool
) -> None:
    dut: Any = (DmaWriter(config=TINY, unit=FaultUnit.STORE) if writes
                else DmaReader(config=TINY, unit=FaultUnit.LOAD, axi_id=1))
    bus = dut.axi.aw if writes else dut.axi.ar

    async def bench(ctx: Any) -> None:
        open_window(ctx, dut, BASE + 0x100, BASE + 0x200)
        ctx.set(dut.runs.payload, {"address": address, "beats": beats, "last": 1, "index": 77})
        ctx.set(dut.runs.valid, 1)
        await ctx.tick().until(dut.runs.ready)
        ctx.set(dut.runs.valid, 0)
        for _ in range(20):
            assert allowed or not ctx.get(bus.valid)
            if ctx.get(bus.valid):
                break
            await ctx.tick()
        assert ctx.get(bus.valid) == allowed
        assert ctx.get(dut.fault.valid) == (not allowed)
        if not allowed:
            assert ctx.get(dut.fault.code) == Fault.ADDRESS
            assert ctx.get(dut.fault.address) == address
            assert ctx.get(dut.fault.index) == 77
            assert ctx.get(dut.idle)

    simulate(dut, bench)


@pytest.mark.parametrize("response", [Response.SLVERR, Response.DECERR])
def test_read_error_is_reported_and_nothing_of_it_delivered(response: Response) -> None:
    dut = DmaReader(config=TINY, unit=FaultUnit.LOAD, axi_id=1)
    bad = BASE + 0x280
    memory = memory_for(
        TINY, respond=lambda address: response if address == bad else Response.OKAY
    )
    runs = [(BASE, 40), (BASE + 0x280, 40), (BASE + 0x800, 40)]
    delivered = 0

    async def bench(ctx: Any) -> None:
        nonlocal delivered
        open_window(ctx, dut)
        ctx.set(dut.beats.ready, 1)
        for index, (address, beats) in enumerate(runs):
            ctx.set(dut.runs.payload, {"address": address, "beats": beats, "index": index + 5})
            ctx.set(dut.runs.valid, 1)
            await ctx.tick().until(dut.runs.ready)
        ctx.set(dut.runs.valid, 0)
        await ticks_until(ctx, dut.fault.valid, 1000)
        assert ctx.get(dut.fault.code) == Fault.AXI_READ
        assert ctx.get(dut.fault.address) == bad
        assert ctx.get(dut.fault.index) == 6
        await ticks_until(ctx, dut.idle, 1000)
        issued = len(memory.reads)
        await ctx.tick().repeat(50)
        assert len(memory.reads) == issued
        assert memory.read_beats == sum(beats for *_, beats in memory.reads)

    async def count(ctx: Any) -> None:
        nonlocal delivered
        while True:
            *_, valid = await ctx.tick().sample(dut.beats.valid)
            delivered += valid

    simulate(dut, bench, background=[count, partial(memory.serve_reads, bus=dut.axi)])
    assert delivered == 40


@pytest.mark.parametrize("after", range(0, 60, 7))
def test_halted_reader_drains_and_can_start_again(after: int) -> None:
    dut = DmaReader(config=TINY, unit=FaultUnit.LOAD, axi_id=1)
    memory = memory_for(TINY, seed=after, stall=0.5)

    async def bench(ctx: Any) -> None:
        open_window(ctx, dut)
        ctx.set(dut.runs.payload, {"address": BASE + 8, "beats": 100})
        ctx.set(dut.runs.valid, 1)
        for _ in range(after):
            await ctx.tick()
        ctx.set(dut.halt, 1)
        ctx.set(dut.runs.valid, 0)
        offered = ctx.get(dut.axi.ar.valid)
        issued = len(memory.reads)
        await ticks_until(ctx, dut.idle, 1000)
        await ctx.tick().repeat(5)
        assert len(memory.reads) == issued + offered
        assert memory.read_beats == sum(beats for *_, beats in memory.reads)
        ctx.set(dut.halt, 0)
        await send_runs(ctx, dut, [(BASE + 0x40, 3)])
        words: list[int] = []
        ctx.set(dut.beats.ready, 1)
        while len(words) < 3:
            *_, valid, beat = await ctx.tick().sample(dut.beats.valid, dut.beats.payload)
            if valid:
                words.append(beat.data)
        assert words == expected_words(memory, [(BASE + 0x40, 3)])

    simulate(dut, bench, background=[partial(memory.serve_reads, bus=dut.axi)])


async def send_beats(ctx: Any, dut: Any, words: list[int], rng: random.Random, rate: float) -> None:
    for index, word in enumerate(words):
        while rng.random() >= rate:
            await ctx.tick()
        ctx.set(dut.beats.payload, {"data": word, "last": index == len(words) - 1})
        ctx.set(dut.beats.valid, 1)
        await ctx.tick().until(dut.beats.ready)
        ctx.set(dut.beats.valid, 0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_writer_stores_runs_and_completes_after_all_responses(
    config: AcceleratorConfig, seed: int
) -> None:
    rng = random.Random(seed)
    dut = DmaWriter(config=config, unit=FaultUnit.STORE)
    memory = memory_for(config, seed=seed, stall=rng.choice([0, 0.3, 0.7]))
    runs = random_runs(config, rng, 20)
    size = config.axi_data_bytes
    words = [rng.getrandbits(8 * size) for _ in range(sum(beats for _, beats in runs))]
    expected = bytearray(memory.data)
    places = [address - BASE + beat * size for address, beats in runs for beat in range(beats)]
    for place, word in zip(places, words, strict=True):
        expected[place:place + size] = word.to_bytes(size, "little")

    async def feed(ctx: Any) -> None:
        open_window(ctx, dut)
        await send_runs(ctx, dut, runs)

    async def supply(ctx: Any) -> None:
        await send_beats(ctx, dut, words, rng, 0.7)

    async def completion(ctx: Any) -> None:
        await ctx.tick().until(dut.completed)
        assert memory.write_beats == len(words)
        await ctx.tick()
        assert memory.responses == len(memory.writes)
        assert ctx.get(dut.idle)
        assert not ctx.get(dut.fault.valid)

    simulate(dut, feed, supply, completion,
             background=[partial(memory.serve_writes, bus=dut.axi)])
    assert memory.data == expected


def test_writer_sustains_one_beat_each_cycle_across_bursts() -> None:
    config = preset("pynq_z2")
    dut = DmaWriter(config=config, unit=FaultUnit.STORE)
    memory = memory_for(config, stall=0, latency=(20, 20))
    times: list[int] = []

    async def feed(ctx: Any) -> None:
        open_window(ctx, dut)
        await send_runs(ctx, dut, [(BASE + index * 256, 16) for index in range(20)])

    async def supply(ctx: Any) -> None:
        ctx.set(dut.beats.valid, 1)
        for index in range(320):
            ctx.set(dut.beats.payload.last, index == 319)
            await ctx.tick().until(dut.beats.ready)

    async def watch(ctx: Any) -> None:
        cycle = 0
        while len(times) < 320:
            *_, valid = await ctx.tick().sample(dut.axi.w.valid)
            if valid:
                times.append(cycle)
            cycle += 1

    simulate(dut, feed, supply, watch, background=[partial(memory.serve_writes, bus=dut.axi)])
    assert times[-1] - times[0] == 319


def test_write_error_is_reported_with_the_burst_address() -> None:
    dut = DmaWriter(config=TINY, unit=FaultUnit.STORE)
    bad = BASE + 0x100
    memory = memory_for(
        TINY, respond=lambda address: Response.SLVERR if address == bad else Response.OKAY
    )

    async def feed(ctx: Any) -> None:
        open_window(ctx, dut)
        await send_runs(ctx, dut, [(BASE, 80), (BASE + 0x400, 16)])
        await ticks_until(ctx, dut.fault.valid, 2000)
        assert ctx.get(dut.fault.code) == Fault.AXI_WRITE
        assert ctx.get(dut.fault.address) == bad
        await ticks_until(ctx, dut.idle, 1000)

    async def never_completed(ctx: Any) -> None:
        while True:
            *_, completed = await ctx.tick().sample(dut.completed)
            assert not completed

    async def supply(ctx: Any) -> None:
        beat = 0
        while True:
            ctx.set(dut.beats.valid, beat < 96)
            ctx.set(dut.beats.payload.last, beat == 95)
            *_, ready = await ctx.tick().sample(dut.beats.ready)
            beat += ready

    simulate(dut, feed, background=[
        never_completed, supply, partial(memory.serve_writes, bus=dut.axi),
    ])


@pytest.mark.parametrize("supplied", range(0, 40, 3))
def test_halted_writer_finishes_offered_bursts_without_writing(supplied: int) -> None:
    dut = DmaWriter(config=TINY, unit=FaultUnit.STORE)
    memory = memory_for(TINY, seed=supplied, stall=0.4)
    before = bytes(memory.data)
    words = list(range(1, supplied + 1))

    async def bench(ctx: Any) -> None:
        open_window(ctx, dut)
        await send_runs(ctx, dut, [(BASE + 16, 60)])
        rng = random.Random(supplied)
        for word in words:
            ctx.set(dut.beats.payload, {"data": word, "last": 0})
            ctx.set(dut.beats.valid, 1)
            await ctx.tick().until(dut.beats.ready)
        ctx.set(dut.beats.valid, 0)
        for _ in range(rng.randrange(4)):
            await ctx.tick()
        ctx.set(dut.halt, 1)
        offered = ctx.get(dut.axi.aw.valid)
        issued = len(memory.writes)
        await ticks_until(ctx, dut.idle, 1000)
        assert len(memory.writes) == issued + offered
        assert memory.responses == len(memory.writes)
        assert memory.write_beats == sum(beats for _, beats in memory.writes)

    simulate(dut, bench, background=[partial(memory.serve_writes, bus=dut.axi)])
    expected = bytearray(before)
    for index, word in enumerate(words):
        expected[16 + 8 * index:24 + 8 * index] = word.to_bytes(8, "little")
    assert memory.data == expected


@pytest.mark.parametrize("marked", [3, 5, 20])
def test_writer_refuses_data_that_end_elsewhere_than_the_runs(marked: int) -> None:
    dut = DmaWriter(config=TINY, unit=FaultUnit.STORE)
    memory = memory_for(TINY)

    async def supply(ctx: Any) -> None:
        beat = 1
        ctx.set(dut.beats.valid, 1)
        while True:
            ctx.set(dut.beats.payload.last, beat == marked)
            *_, ready = await ctx.tick().sample(dut.beats.ready)
            beat += ready

    async def bench(ctx: Any) -> None:
        open_window(ctx, dut)
        await send_runs(ctx, dut, [(BASE, 2), (BASE + 64, 2)])
        await ticks_until(ctx, dut.fault.valid, 200)
        assert ctx.get(dut.fault.code) == Fault.ILLEGAL_INSTRUCTION
        assert ctx.get(dut.fault.index) == 1

    simulate(dut, bench, background=[
        supply, partial(memory.serve_writes, bus=dut.axi),
    ])
