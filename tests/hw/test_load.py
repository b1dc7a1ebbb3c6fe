from __future__ import annotations

import dataclasses
import random
from functools import partial
from typing import Any

import pytest

from pliant.spec.config import AcceleratorConfig, preset
from pliant.spec.isa import Load, Target
from pliant.spec.memory import bank_of
from pliant.spec.registers import Fault, FaultUnit
from pliant_hw.axi import Response
from pliant_hw.load import LoadUnit
from pliant_sim.benches.axi_memory import AxiMemory
from pliant_sim.benches.simulate import payload, simulate

TINY = preset("tiny")
CONFIGS = {
    "tiny": TINY,
    "pynq_z2": preset("pynq_z2"),
    "ultra96": preset("ultra96"),
    "small_beats": dataclasses.replace(TINY, axi_data_bytes=4),
    "wide": dataclasses.replace(preset("kv260"), rows=64, cols=128, axi_data_bytes=128),
}
BASE = 0x1_0000_0000
SIZE = 1 << 17
SEGMENTS = (BASE, BASE + 0x4000, BASE + 0x8000, BASE + 0xC000)
Memory = dict[tuple[int, int, int], int]


def random_load(config: AcceleratorConfig, rng: random.Random, target: Target) -> Load:
    """Both sides agree on the number of beats, with different shapes."""
    size = config.axi_data_bytes
    rows, groups, row_beats = rng.randint(1, 4), rng.randint(1, 3), rng.randint(1, 9)
    sides = [(row_beats, rows, groups), (row_beats * rows, groups, 1),
             (row_beats * rows * groups, 1, 1), (1, row_beats * rows, groups)]
    run_beats, runs, blocks = rng.choice(sides)
    beats = row_beats * rows * groups
    per_row = 8
    destination = {
        Target.FEATURE: rng.randrange(64),
        Target.WEIGHT: rng.randrange(64),
        Target.PARAMETER: rng.randrange(4) * max(1, size // config.parameter_bytes),
        Target.TABLE: 0,
        Target.TAPS: rng.randrange(8),
    }[target]
    if target in (Target.PARAMETER, Target.TAPS):  # stay inside the smallest buffer
        run_beats, runs, blocks = rng.randint(1, 3), 2, 1
    if target == Target.TABLE:
        run_beats, runs, blocks = 256 // size, 1, 1
    run_stride = (run_beats + rng.randrange(4)) * size
    block_stride = runs * run_stride + rng.randrange(4) * size
    assert beats
    return Load(
        target=target, segment=rng.randrange(4), offset=rng.randrange(64) * size,
        run_beats=run_beats, runs=runs, run_stride=run_stride,
        blocks=blocks, block_stride=block_stride, destination=destination,
        row_beats=row_beats, rows=rows, groups=groups,
        row_stride=per_row + rng.randrange(3), group_stride=3 * per_row + rng.randrange(5),
    )


def source_addresses(config: AcceleratorConfig, load: Load) -> list[int]:
    start = SEGMENTS[load.segment] + load.offset
    return [
        start + block * load.block_stride + run * load.run_stride + beat * config.axi_data_bytes
        for block in range(load.blocks) for run in range(load.runs)
        for beat in range(load.run_beats)
    ]


def expected_writes(config: AcceleratorConfig, load: Load, data: bytearray) -> Memory:
    """What the definition in the instruction set and the memory layouts asks for."""
    size, lanes = config.axi_data_bytes, config.lanes
    stream = b"".join(data[a - BASE:a - BASE + size] for a in source_addresses(config, load))
    result: Memory = {}
    if load.target != Target.FEATURE:
        unit = {Target.WEIGHT: config.cols, Target.PARAMETER: config.parameter_bytes,
                Target.TABLE: 1, Target.TAPS: 4 * config.lanes}[Target(load.target)]
        first = load.destination * unit // size
        for beat in range(len(stream) // size):
            word = stream[beat * size:(beat + 1) * size]
            result[load.target, 0, first + beat] = int.from_bytes(word, "little")
        return result
    words = iter(stream[i:i + lanes] for i in range(0, len(stream), lanes))
    for group in range(load.groups):
        for y in range(load.rows):
            for x in range(load.row_beats * config.words_per_beat):
                start = load.destination + group * load.group_stride
                address = start + (y >> 1) * load.row_stride + (x >> 1)
                key = (Target.FEATURE, bank_of(start, y, x), address)
                result[key] = int.from_bytes(next(words), "little")
    assert next(words, None) is None
    return result


class Buffers:
    """Collects what the unit writes; each bank of the features is free at random."""

    def __init__(self, dut: LoadUnit, ready: float, seed: int) -> None:
        self.dut, self.ready = dut, ready
        self.contents: Memory = {}
        self.dones: list[Memory] = []
        self.times: list[int] = []
        self._random = random.Random(seed)

    async def watch(self, ctx: Any) -> None:
        dut = self.dut
        ports = {Target.WEIGHT: dut.weights, Target.PARAMETER: dut.parameters,
                 Target.TABLE: dut.table, Target.TAPS: dut.taps}
        probes = [signal for port in ports.values()
                  for signal in (port.valid, port.address, port.data)]
        cycle = 0
        while True:
            asked = ctx.get(dut.feature.mask)
            free = sum((self._random.random() < self.ready) << bank for bank in range(4))
            ctx.set(dut.feature.granted, asked & free)
            ctx.set(dut.feature.ready, asked & ~free == 0)
            *head, valid, mask, address, data, done = await ctx.tick().sample(
                *probes, dut.feature.valid, dut.feature.granted,
                dut.feature.address, dut.feature.data, dut.done,
            )
            written = len(self.contents)
            if valid:
                for bank in range(4):
                    if mask >> bank & 1:
                        self.contents[Target.FEATURE, bank, address[bank]] = data[bank]
            sampled = head[-len(probes):]
            for index, target in enumerate(ports):
                enable, where, word = sampled[3 * index:3 * index + 3]
                if enable:
                    self.contents[target, 0, where] = word
            if len(self.contents) > written:
                self.times.append(cycle)
            if done:
                self.dones.append(dict(self.contents))
            cycle += 1


async def start(ctx: Any, dut: LoadUnit, loads: list[Load]) -> None:
    ctx.set(dut.window_base, BASE)
    ctx.set(dut.window_limit, BASE + SIZE)
    ctx.set(dut.segment_base, list(SEGMENTS))
    for index, load in enumerate(loads):
        ctx.set(dut.instruction.payload, payload(load, index + 100))
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
def test_loads_put_every_beat_where_the_layouts_say_in_order(name: str, seed: int) -> None:
    config, rng = CONFIGS[name], random.Random(seed)
    loads = [random_load(config, rng, rng.choice(list(Target))) for _ in range(12)]
    dut = LoadUnit(config=config)
    memory = new_memory(config, seed=seed, stall=rng.choice([0, 0.3]))
    buffers = Buffers(dut, rng.choice([1, 0.6]), seed)

    async def bench(ctx: Any) -> None:
        await start(ctx, dut, loads)
        for _ in range(20_000):
            if len(buffers.dones) == len(loads):
                break
            await ctx.tick()
        await ctx.tick().repeat(5)
        assert not ctx.get(dut.busy)
        assert ctx.get(dut.idle)
        assert not ctx.get(dut.fault.valid)

    simulate(dut, bench, background=[partial(memory.serve_reads, bus=dut.axi), buffers.watch])
    assert len(buffers.dones) == len(loads)
    expected: Memory = {}
    for load, found in zip(loads, buffers.dones, strict=True):
        expected |= expected_writes(config, load, memory.data)
        assert {key: found.get(key) for key in expected} == expected
    assert buffers.contents == expected


@pytest.mark.parametrize("name", ["tiny", "pynq_z2"])
def test_data_of_the_next_load_follow_without_waiting_for_memory(name: str) -> None:
    config = CONFIGS[name]
    loads = [
        Load(target=Target.FEATURE, run_beats=64, row_beats=8, rows=8, row_stride=8,
             destination=100 * index)
        for index in range(4)
    ]
    dut = LoadUnit(config=dataclasses.replace(config, axi_outstanding=16))
    memory = new_memory(config, stall=0, latency=(80, 80))
    buffers = Buffers(dut, 1, 0)

    async def bench(ctx: Any) -> None:
        await start(ctx, dut, loads)
        while len(buffers.dones) < len(loads):
            await ctx.tick()

    simulate(dut, bench, background=[partial(memory.serve_reads, bus=dut.axi), buffers.watch])
    assert len(buffers.times) == 4 * 64
    assert buffers.times[-1] - buffers.times[0] == 4 * 64 - 1


GOOD = Load(target=Target.FEATURE, run_beats=8, row_beats=4, rows=2, row_stride=8)
PARAMETERS = Load(target=Target.PARAMETER, run_beats=2)


def expect_fault(
    config: AcceleratorConfig, load: Load, **options: Any
) -> tuple[Fault, int, int, LoadUnit, AxiMemory]:
    dut = LoadUnit(config=config)
    memory = new_memory(config, **options)
    buffers = Buffers(dut, 1, 0)
    result: list[Any] = []

    async def bench(ctx: Any) -> None:
        await start(ctx, dut, [GOOD, load])
        for _ in range(2000):
            if ctx.get(dut.fault.valid):
                break
            await ctx.tick()
        assert ctx.get(dut.fault.valid)
        assert ctx.get(dut.fault.unit) == FaultUnit.LOAD.value
        assert ctx.get(dut.fault.index) == 101
        result[:] = [Fault(ctx.get(dut.fault.code)), ctx.get(dut.fault.address)]
        ctx.set(dut.halt, 1)
        for _ in range(500):
            await ctx.tick()
        assert ctx.get(dut.idle)
        assert len(buffers.dones) <= 1

    simulate(dut, bench, background=[partial(memory.serve_reads, bus=dut.axi), buffers.watch])
    code, address = result
    return code, address, len(buffers.contents), dut, memory


@pytest.mark.parametrize("change", [
    {"run_beats": 7}, {"run_beats": 9}, {"rows": 3}, {"groups": 2}, {"runs": 2},
    {"destination": 512}, {"row_stride": 512, "rows": 4, "run_beats": 16},
], ids=str)
def test_feature_load_that_does_not_fit_is_an_illegal_instruction(change: dict[str, int]) -> None:
    load = dataclasses.replace(GOOD, **change)
    code, address, *_ = expect_fault(TINY, load)
    assert (code, address) == (Fault.ILLEGAL_INSTRUCTION, 0)


@pytest.mark.parametrize(("config", "load"), [
    (preset("pynq_z2"), dataclasses.replace(PARAMETERS, destination=1022, run_beats=2)),
    (TINY, Load(target=Target.TABLE, run_beats=33)),
    (TINY, Load(target=Target.WEIGHT, run_beats=2, destination=1023)),
])
def test_load_beyond_a_buffer_is_an_illegal_instruction(
    config: AcceleratorConfig, load: Load
) -> None:
    code, address, *_ = expect_fault(config, load)
    assert (code, address) == (Fault.ILLEGAL_INSTRUCTION, 0)


def test_load_outside_the_window_reports_the_address() -> None:
    code, address, *_ = expect_fault(TINY, dataclasses.replace(GOOD, segment=3, offset=0x13FC8))
    assert (code, address) == (Fault.ADDRESS, BASE + 0x1FFC8)


def test_read_error_reports_the_burst() -> None:
    load = dataclasses.replace(GOOD, offset=0x400)
    code, address, *_ = expect_fault(
        TINY, load,
        respond=lambda at: Response.DECERR if at == BASE + 0x400 else Response.OKAY,
    )
    assert (code, address) == (Fault.AXI_READ, BASE + 0x400)
