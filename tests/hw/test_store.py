from __future__ import annotations

import dataclasses
import random
from functools import partial
from typing import Any

import pytest

from pliant.spec.config import AcceleratorConfig, preset
from pliant.spec.isa import Store
from pliant.spec.memory import bank_of
from pliant.spec.registers import Fault, FaultUnit
from pliant_hw.axi import Response
from pliant_hw.layouts import FEATURE_READ_LATENCY
from pliant_hw.store import StoreUnit
from pliant_sim.benches.axi_memory import AxiMemory
from pliant_sim.benches.simulate import payload, simulate

TINY = preset("tiny")
CONFIGS = {
    "tiny": TINY,
    "pynq_z2": preset("pynq_z2"),
    "ultra96": preset("ultra96"),
    "small_beats": dataclasses.replace(TINY, axi_data_bytes=4),
    "kv260": preset("kv260"),
}
BASE = 0x1_0000_0000
SEGMENT_BYTES = 1 << 14
SIZE = 4 * SEGMENT_BYTES
SEGMENTS = tuple(BASE + index * SEGMENT_BYTES for index in range(4))


class FeatureBanks:
    """Random words behind a read port with fixed latency; each bank is free at random."""

    def __init__(self, config: AcceleratorConfig, ready: float, seed: int) -> None:
        self._random = random.Random(seed)
        self.ready = ready
        self.words = [
            [self._random.getrandbits(8 * config.lanes) for _ in range(config.feature_depth)]
            for _ in range(4)
        ]
        self._bits = 8 * config.lanes

    async def serve(self, ctx: Any, port: Any) -> None:
        arriving: list[list[int]] = [self._garbage() for _ in range(FEATURE_READ_LATENCY)]
        while True:
            mask = ctx.get(port.mask)
            free = sum((self._random.random() < self.ready) << bank for bank in range(4))
            ctx.set(port.granted, mask & free)
            ctx.set(port.ready, mask & ~free == 0)
            *_, valid, address = await ctx.tick().sample(port.valid, port.address)
            words = self._garbage()
            if valid:
                for bank in range(4):
                    if mask & free & 1 << bank:
                        words[bank] = self.words[bank][address[bank]]
            arriving = [*arriving[1:], words]
            ctx.set(port.data, arriving[0])

    def _garbage(self) -> list[int]:
        return [self._random.getrandbits(self._bits) for _ in range(4)]


def random_store(config: AcceleratorConfig, rng: random.Random, segment: int) -> Store:
    size = config.axi_data_bytes
    row_beats, rows, groups = rng.randint(1, 9), rng.randint(1, 4), rng.randint(1, 3)
    run_beats, runs, blocks = rng.choice([
        (row_beats, rows, groups), (row_beats * rows, groups, 1),
        (row_beats * rows * groups, 1, 1), (row_beats, 1, rows * groups),
    ])
    run_stride = (run_beats + rng.randrange(3)) * size
    return Store(
        segment=segment, offset=rng.randrange(8) * size, run_beats=run_beats, runs=runs,
        run_stride=run_stride, blocks=blocks,
        block_stride=runs * run_stride + rng.randrange(3) * size, source=rng.randrange(64),
        row_beats=row_beats, rows=rows, groups=groups,
        row_stride=8 + rng.randrange(3), group_stride=20 + rng.randrange(5),
    )


def apply_store(
    config: AcceleratorConfig, store: Store, words: list[list[int]], data: bytearray
) -> None:
    """What the definition in the instruction set and the memory layouts asks for."""
    stream = bytearray()
    for group in range(store.groups):
        for y in range(store.rows):
            for x in range(store.row_beats * config.words_per_beat):
                start = store.source + group * store.group_stride
                address = start + (y >> 1) * store.row_stride + (x >> 1)
                stream += words[bank_of(start, y, x)][address].to_bytes(config.lanes, "little")
    size = config.axi_data_bytes * store.run_beats
    start = SEGMENTS[store.segment] + store.offset - BASE
    for block in range(store.blocks):
        for run in range(store.runs):
            place = start + block * store.block_stride + run * store.run_stride
            data[place:place + size] = stream[:size]
            del stream[:size]
    assert not stream


async def issue(ctx: Any, dut: StoreUnit, stores: list[Store]) -> None:
    ctx.set(dut.window_base, BASE)
    ctx.set(dut.window_limit, BASE + SIZE)
    ctx.set(dut.segment_base, list(SEGMENTS))
    for index, store in enumerate(stores):
        ctx.set(dut.instruction.payload, payload(store, index + 100))
        ctx.set(dut.instruction.valid, 1)
        for _ in range(5000):
            *_, ready = await ctx.tick().sample(dut.instruction.ready)
            if ready:
                break
        else:
            raise AssertionError(f"instruction {index} was not taken")
    ctx.set(dut.instruction.valid, 0)


def new_memory(config: AcceleratorConfig, **options: Any) -> AxiMemory:
    data = bytearray(random.Random(7).randbytes(SIZE))
    return AxiMemory(config=config, data=data, base=BASE, **options)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", CONFIGS)
def test_stores_write_every_word_and_are_done_when_acknowledged(name: str, seed: int) -> None:
    config, rng = CONFIGS[name], random.Random(seed)
    stores = [random_store(config, rng, index % 4) for index in range(8)]
    dut = StoreUnit(config=config)
    memory = new_memory(config, seed=seed, stall=rng.choice([0, 0.3, 0.6]))
    banks = FeatureBanks(config, rng.choice([1, 0.5]), seed)
    expected = bytearray(memory.data)
    done = 0

    async def bench(ctx: Any) -> None:
        await issue(ctx, dut, stores)
        for _ in range(20_000):
            if done == len(stores):
                break
            await ctx.tick()
        await ctx.tick().repeat(5)
        assert not ctx.get(dut.busy)
        assert ctx.get(dut.idle)
        assert not ctx.get(dut.fault.valid)

    async def check(ctx: Any) -> None:
        nonlocal done
        while True:
            *_, pulse = await ctx.tick().sample(dut.done)
            if not pulse:
                continue
            store = stores[done]
            apply_store(config, store, banks.words, expected)
            start = SEGMENTS[store.segment] + store.offset - BASE
            end = (start + (store.blocks - 1) * store.block_stride
                   + (store.runs - 1) * store.run_stride
                   + store.run_beats * config.axi_data_bytes)
            assert memory.data[start:end] == expected[start:end]
            done += 1

    simulate(dut, bench, background=[
        partial(banks.serve, port=dut.feature), check,
        partial(memory.serve_writes, bus=dut.axi),
    ])
    assert done == len(stores)
    assert memory.data == expected
    assert memory.write_beats == sum(s.run_beats * s.runs * s.blocks for s in stores)


@pytest.mark.parametrize("name", ["tiny", "pynq_z2"])
def test_store_sustains_one_beat_each_cycle(name: str) -> None:
    config = dataclasses.replace(CONFIGS[name], axi_outstanding=16)
    store = Store(run_beats=256, row_beats=16, rows=16, row_stride=16)
    dut = StoreUnit(config=config)
    memory = new_memory(config, stall=0, latency=(30, 30))
    banks = FeatureBanks(config, 1, 0)
    times: list[int] = []

    async def bench(ctx: Any) -> None:
        await issue(ctx, dut, [store])
        await ctx.tick().until(dut.done)

    async def watch(ctx: Any) -> None:
        cycle = 0
        while True:
            *_, sent = await ctx.tick().sample(dut.axi.w.valid & dut.axi.w.ready)
            if sent:
                times.append(cycle)
            cycle += 1

    simulate(dut, bench, background=[
        watch, partial(banks.serve, port=dut.feature), partial(memory.serve_writes, bus=dut.axi),
    ])
    assert len(times) == 256
    assert times[-1] - times[0] == 255


GOOD = Store(run_beats=8, row_beats=4, rows=2, row_stride=8)


@pytest.mark.parametrize(("change", "code", "address"), [
    ({"run_beats": 7}, Fault.ILLEGAL_INSTRUCTION, 0),
    ({"run_beats": 9}, Fault.ILLEGAL_INSTRUCTION, 0),
    ({"rows": 3}, Fault.ILLEGAL_INSTRUCTION, 0),
    ({"source": 511}, Fault.ILLEGAL_INSTRUCTION, 0),
    ({"row_stride": 512, "rows": 4, "run_beats": 16}, Fault.ILLEGAL_INSTRUCTION, 0),
    ({"segment": 3, "offset": 0x3FC8}, Fault.ADDRESS, BASE + 0xFFC8),
    ({"offset": 4}, Fault.ADDRESS, BASE + 4),
    ({"segment": 2}, Fault.AXI_WRITE, BASE + 0x8000),
], ids=str)
def test_faulty_store_is_reported_never_done_and_drains(
    change: dict[str, int], code: Fault, address: int
) -> None:
    dut = StoreUnit(config=TINY)
    memory = new_memory(
        TINY, respond=lambda at: Response.SLVERR if at == BASE + 0x8000 else Response.OKAY
    )
    banks = FeatureBanks(TINY, 1, 0)
    done = 0

    async def bench(ctx: Any) -> None:
        follower = dataclasses.replace(GOOD, offset=0x400)
        await issue(ctx, dut, [GOOD, dataclasses.replace(GOOD, **change), follower])
        for _ in range(1000):
            if ctx.get(dut.fault.valid):
                break
            await ctx.tick()
        assert ctx.get(dut.fault.valid)
        assert ctx.get(dut.fault.code) == code.value
        assert ctx.get(dut.fault.unit) == FaultUnit.STORE.value
        assert ctx.get(dut.fault.index) == 101
        assert ctx.get(dut.fault.address) == address
        ctx.set(dut.halt, 1)
        for _ in range(500):
            await ctx.tick()
        assert ctx.get(dut.idle)

    async def count(ctx: Any) -> None:
        nonlocal done
        while True:
            *_, pulse = await ctx.tick().sample(dut.done)
            done += pulse

    simulate(dut, bench, background=[
        count, partial(banks.serve, port=dut.feature), partial(memory.serve_writes, bus=dut.axi),
    ])
    assert done <= 1
    assert memory.responses == len(memory.writes)
