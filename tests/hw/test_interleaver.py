"""Both interleavers against memories that stall, answer late, and fail, one behind each port."""

from __future__ import annotations

import dataclasses
import random
from functools import partial
from typing import Any

import pytest
from amaranth import Const, Signal
from amaranth.hdl import Module

from pliant.spec.config import AcceleratorConfig, preset
from pliant.spec.platform import platform
from pliant_hw.axi import Response
from pliant_hw.board.boards import core_ports
from pliant_hw.memory_ports import MemoryPorts, line_bytes, port_number, port_of, widened
from pliant_hw.read_interleaver import ReadInterleaver
from pliant_hw.write_interleaver import WriteInterleaver
from pliant_sim.benches import port_rates
from pliant_sim.benches.axi_memory import AxiMemory
from pliant_sim.benches.simulate import simulate

TINY = preset("tiny")
KV260 = preset("kv260")
BASE = 0x12_3400_0000
SIZE = 1 << 15

Burst = tuple[int, int, int]
"""ID, address, beats of the core."""

SHAPES = {
    "tiny_1x4": (TINY, MemoryPorts(count=1, data_bytes=4)),
    "tiny_2x8": (TINY, MemoryPorts(count=2, data_bytes=8)),
    "tiny_4x4": (TINY, MemoryPorts(count=4, data_bytes=4)),
    "long_2x4": (dataclasses.replace(TINY, axi_burst_beats=128, axi_outstanding=1),
                 MemoryPorts(count=2, data_bytes=4)),
    "pynq_z2": (preset("pynq_z2"), MemoryPorts(count=2, data_bytes=8)),
    "kv260": (KV260, MemoryPorts(count=4, data_bytes=16)),
}

SHAPES_AND_SEEDS = pytest.mark.parametrize(("shape", "seed"), [
    *(pytest.param(shape, seed, marks=[] if seed == 0 or config is TINY else [pytest.mark.slow])
      for shape, (config, _) in SHAPES.items() if shape != "long_2x4" for seed in range(3)),
    pytest.param("long_2x4", 0, marks=[pytest.mark.slow])])


def memories(
    config: AcceleratorConfig, ports: MemoryPorts, seed: int = 0, **options: Any
) -> list[AxiMemory]:
    """The same bytes behind every port; the ports stall independently and more or less often."""
    content, rng = bytearray(random.Random(1).randbytes(SIZE)), random.Random(seed)
    return [AxiMemory(**{
        "config": config, "ports": ports, "data": content, "base": BASE, "seed": 100 * seed + port,
        "stall": rng.choice([0, 0.3, 0.8]), "latency": (1, rng.choice([1, 30, 90])), **options,
    }) for port in range(ports.count)]


def random_bursts(config: AcceleratorConfig, rng: random.Random, count: int) -> list[Burst]:
    """Bursts of the core: aligned, of any length that stays within a line."""
    beats_per_line, bursts = config.axi_burst_beats, []
    for _ in range(count):
        beats = rng.choice([1, 2, beats_per_line, rng.randint(1, beats_per_line)])
        line = BASE + line_bytes(config) * rng.randrange(SIZE // line_bytes(config))
        first = rng.randrange(beats_per_line - beats + 1)
        bursts.append((rng.randrange(2), line + first * config.axi_data_bytes, beats))
    return bursts


async def ask(ctx: Any, channel: Any, bursts: list[Burst], rng: random.Random, rate: float) -> None:
    for axi_id, address, beats in bursts:
        while rng.random() >= rate:
            await ctx.tick()
        ctx.set(channel.payload, {"id": axi_id, "addr": address, "len": beats - 1})
        ctx.set(channel.valid, 1)
        await ctx.tick().until(channel.ready)
        ctx.set(channel.valid, 0)


async def receive(
    ctx: Any, r: Any, bursts: list[Burst], rng: random.Random, rate: float
) -> list[tuple[int, int, int, int]]:
    """Take the beats of bursts: id, data, response, last."""
    beats: list[tuple[int, int, int, int]] = []
    while len(beats) < sum(count for *_, count in bursts):
        ctx.set(r.ready, rng.random() < rate)
        *_, moves, beat = await ctx.tick().sample(r.valid & r.ready, r.payload)
        if moves:
            beats.append((beat.id, beat.data, beat.resp, beat.last))
    ctx.set(r.ready, 0)
    return beats


def word_at(memory: AxiMemory, config: AcceleratorConfig, address: int) -> int:
    offset = address - BASE
    return int.from_bytes(memory.data[offset:offset + config.axi_data_bytes], "little")


def read_servers(dut: ReadInterleaver, served: list[AxiMemory]) -> list[Any]:
    return [partial(memory.serve_reads, bus=dut.ports[port]) for port, memory in enumerate(served)]


def write_servers(dut: WriteInterleaver, served: list[AxiMemory]) -> list[Any]:
    return [partial(memory.serve_writes, bus=dut.ports[port]) for port, memory in enumerate(served)]


@SHAPES_AND_SEEDS
def test_data_return_in_the_order_asked_for_whatever_the_ports_do(shape: str, seed: int) -> None:
    config, ports = SHAPES[shape]
    rng = random.Random(seed)
    dut = ReadInterleaver(config=config, ports=ports)
    served = memories(config, ports, seed)
    bursts = random_bursts(config, rng, 60)
    beats: list[Any] = []

    async def collect(ctx: Any) -> None:
        beats.extend(await receive(ctx, dut.core.r, bursts, rng, rng.choice([0.5, 1])))
        assert not any([ctx.get(dut.core.r.valid), *(ctx.get(port.ar.valid) for port in dut.ports)])

    simulate(dut, partial(ask, channel=dut.core.ar, bursts=bursts, rng=random.Random(seed),
                          rate=rng.choice([0.3, 1])),
             collect, background=read_servers(dut, served), limit=60_000)
    assert beats == [
        (axi_id, word_at(served[0], config, address + beat * config.axi_data_bytes), 0,
         beat == count - 1)
        for axi_id, address, count in bursts for beat in range(count)]
    # Each burst went whole to the port of its address, as beats of the port.
    for port, memory in enumerate(served):
        assert memory.reads == [
            (0, address, count * ports.ratio(config)) for _, address, count in bursts
            if port_number(config, ports, address) == port]


@SHAPES_AND_SEEDS
def test_writes_leave_exactly_their_bytes_and_have_one_response_each(shape: str, seed: int) -> None:
    config, ports = SHAPES[shape]
    rng = random.Random(seed)
    dut = WriteInterleaver(config=config, ports=ports)
    served = memories(config, ports, seed)
    size = config.axi_data_bytes
    bursts = random_bursts(config, rng, 60)
    expected, beats = bytearray(served[0].data), []
    for _, address, count in bursts:
        for beat in range(count):
            word, strobe = rng.randbytes(size), rng.choice([0, -1, rng.getrandbits(size)])
            at = address - BASE + beat * size
            for index in range(size):
                if strobe >> index & 1:
                    expected[at + index] = word[index]
            beats.append({"data": int.from_bytes(word, "little"), "last": beat == count - 1,
                          "strb": strobe & (1 << size) - 1})
    answers: list[tuple[int, int]] = []

    async def supply(ctx: Any) -> None:
        source, rate = random.Random(seed), rng.choice([0.4, 1])
        for beat in beats:
            while source.random() >= rate:
                await ctx.tick()
            ctx.set(dut.core.w.payload, beat)
            ctx.set(dut.core.w.valid, 1)
            await ctx.tick().until(dut.core.w.ready)
            ctx.set(dut.core.w.valid, 0)

    async def collect(ctx: Any) -> None:
        b = dut.core.b
        while len(answers) < len(bursts):
            ctx.set(b.ready, rng.random() < 0.7)
            *_, moves, answer = await ctx.tick().sample(b.valid & b.ready, b.payload)
            if moves:
                answers.append((answer.id, answer.resp))

    # Bursts that overlap are written in order only at one port: an address has one.
    simulate(dut, partial(ask, channel=dut.core.aw, bursts=bursts, rng=random.Random(seed), rate=1),
             supply, collect, background=write_servers(dut, served), limit=60_000)
    assert served[0].data == expected
    assert answers == [(axi_id, 0) for axi_id, *_ in bursts]
    for port, memory in enumerate(served):
        assert memory.writes == [
            (address, count * ports.ratio(config)) for _, address, count in bursts
            if port_number(config, ports, address) == port]


@pytest.mark.parametrize("shape", ["tiny_2x8", pytest.param("tiny_4x4", marks=pytest.mark.slow)])
def test_errors_come_back_with_the_burst_they_belong_to(shape: str) -> None:
    config, ports = SHAPES[shape]
    rng = random.Random(5)
    bursts = random_bursts(config, rng, 50)
    bad = {address: rng.choice([Response.SLVERR, Response.DECERR])
           for _, address, _ in bursts[::3]}
    served = memories(config, ports, 2,
                      respond=lambda address: bad.get(address, Response.OKAY))
    reads, writes = (ReadInterleaver(config=config, ports=ports),
                     WriteInterleaver(config=config, ports=ports))
    beats: list[Any] = []
    answers: list[int] = []

    async def collect(ctx: Any) -> None:
        beats.extend(await receive(ctx, reads.core.r, bursts, rng, 0.8))

    async def supply(ctx: Any) -> None:
        for _, _, count in bursts:
            for beat in range(count):
                ctx.set(writes.core.w.payload, {"strb": 0, "last": beat == count - 1})
                ctx.set(writes.core.w.valid, 1)
                await ctx.tick().until(writes.core.w.ready)
        ctx.set(writes.core.w.valid, 0)

    async def acknowledge(ctx: Any) -> None:
        ctx.set(writes.core.b.ready, 1)
        while len(answers) < len(bursts):
            *_, valid, answer = await ctx.tick().sample(writes.core.b.valid, writes.core.b.payload)
            if valid:
                answers.append(answer.resp)

    simulate(reads, partial(ask, channel=reads.core.ar, bursts=bursts, rng=rng, rate=1), collect,
             background=read_servers(reads, served), limit=60_000)
    simulate(writes, partial(ask, channel=writes.core.aw, bursts=bursts, rng=rng, rate=1), supply,
             acknowledge, background=write_servers(writes, served), limit=60_000)
    expected = [bad.get(address, Response.OKAY) for _, address, _ in bursts]
    assert answers == expected
    assert [beat[2] for beat in beats] == [
        response for response, (*_, count) in zip(expected, bursts, strict=True)
        for _ in range(count)]


def test_an_error_of_one_part_of_a_beat_is_the_beats() -> None:
    config, ports = TINY, MemoryPorts(count=1, data_bytes=4)
    responses = [Response.OKAY, Response.SLVERR, Response.DECERR, Response.OKAY, Response.SLVERR,
                 Response.DECERR, Response.OKAY, Response.OKAY]
    dut = ReadInterleaver(config=config, ports=ports)
    found: list[int] = []

    async def bench(ctx: Any) -> None:
        await ask(ctx, dut.core.ar, [(0, 0x100, 4)], random.Random(0), 1)
        await ctx.tick().until(dut.ports[0].ar.valid)
        for index, response in enumerate(responses):
            ctx.set(dut.ports[0].r.payload,
                    {"data": index, "resp": response, "last": index == 7})
            ctx.set(dut.ports[0].r.valid, 1)
            await ctx.tick().until(dut.ports[0].r.ready)
        ctx.set(dut.ports[0].r.valid, 0)

    async def collect(ctx: Any) -> None:
        found.extend(beat[2] for beat in await receive(
            ctx, dut.core.r, [(0, 0x100, 4)], random.Random(0), 1))

    simulate(dut, bench, collect)
    assert found == [Response.SLVERR, Response.DECERR, Response.DECERR, Response.OKAY]


def test_no_port_is_asked_for_more_than_it_has_room_for() -> None:
    """RREADY never falls: a port that waited could hold up another behind them."""
    config, ports = KV260, MemoryPorts(count=4, data_bytes=16)
    dut = ReadInterleaver(config=config, ports=ports)
    served = memories(config, ports, stall=0, latency=(5, 5))

    async def bench(ctx: Any) -> None:
        ctx.set(dut.core.r.ready, 0)
        await ask(ctx, dut.core.ar, [(1, BASE + 1024 * line, 16) for line in range(8)],
                  random.Random(0), 1)
        ctx.set(dut.core.ar.payload, {"id": 0, "addr": BASE, "len": 15})
        ctx.set(dut.core.ar.valid, 1)
        for _ in range(900):
            assert all(ctx.get(port.r.ready) for port in dut.ports)
            await ctx.tick()
        asked = [sum(beats for *_, beats in memory.reads) for memory in served]
        assert max(asked) == 256
        assert [memory.read_beats for memory in served] == asked

    simulate(dut, bench, background=read_servers(dut, served))


def test_a_write_is_offered_when_all_its_data_are_there() -> None:
    config, ports = TINY, MemoryPorts(count=2, data_bytes=4)
    dut = WriteInterleaver(config=config, ports=ports)

    async def bench(ctx: Any) -> None:
        ctx.set(dut.core.aw.payload, {"addr": 0, "len": 3})
        ctx.set(dut.core.aw.valid, 1)
        await ctx.tick().until(dut.core.aw.ready)
        ctx.set(dut.core.aw.valid, 0)
        for beat in range(4):
            for _ in range(10):
                assert not ctx.get(dut.ports[0].aw.valid | dut.ports[0].w.valid)
                await ctx.tick()
            ctx.set(dut.core.w.payload, {"last": beat == 3})
            ctx.set(dut.core.w.valid, 1)
            await ctx.tick().until(dut.core.w.ready)
            ctx.set(dut.core.w.valid, 0)
        await ctx.tick().repeat(4)
        assert ctx.get(dut.ports[0].aw.valid & dut.ports[0].w.valid)

    simulate(dut, bench)


async def cycles_until(ctx: Any, condition: Any) -> int:
    for count in range(20):
        if ctx.get(condition):
            return count
        await ctx.tick()
    raise AssertionError(f"{condition!r} did not come")


def test_a_read_takes_two_cycles_each_way() -> None:
    dut = ReadInterleaver(config=TINY, ports=MemoryPorts(count=2, data_bytes=4))
    port = dut.ports[0]

    async def bench(ctx: Any) -> None:
        ctx.set(dut.core.ar.valid, 1)
        assert ctx.get(dut.core.ar.ready)
        assert await cycles_until(ctx, port.ar.valid) == 2
        ctx.set(dut.core.ar.valid, 0)
        ctx.set(port.r.valid, 1)
        await ctx.tick()
        ctx.set(port.r.payload.last, 1)
        assert await cycles_until(ctx, dut.core.r.valid) == 2

    simulate(dut, bench)


def test_a_write_takes_two_cycles_behind_its_last_beat_and_its_response_two() -> None:
    dut = WriteInterleaver(config=TINY, ports=MemoryPorts(count=2, data_bytes=4))
    port = dut.ports[0]

    async def bench(ctx: Any) -> None:
        ctx.set(dut.core.aw.valid, 1)
        await ctx.tick()
        ctx.set(dut.core.aw.valid, 0)
        await ctx.tick().repeat(5)
        ctx.set(dut.core.w.payload.last, 1)
        ctx.set(dut.core.w.valid, 1)
        assert ctx.get(dut.core.w.ready)
        await ctx.tick()
        ctx.set(dut.core.w.valid, 0)
        assert 1 + await cycles_until(ctx, port.aw.valid) == 2
        assert 2 + await cycles_until(ctx, port.w.valid) == 3
        ctx.set(port.b.valid, 1)
        await ctx.tick()
        ctx.set(port.b.valid, 0)
        assert 1 + await cycles_until(ctx, dut.core.b.valid) == 2

    simulate(dut, bench)


@pytest.mark.parametrize("writes", [False, True], ids=["reads", "writes"])
@pytest.mark.parametrize("name", [
    "kv260", pytest.param("aup_zu3", marks=pytest.mark.slow),
    pytest.param("pynq_z2", marks=pytest.mark.slow)])
def test_long_runs_have_nine_tenths_of_all_ports_together(name: str, writes: bool) -> None:
    board = platform(name)
    config, ports = board.config, core_ports(board)
    assert ports is not None
    found = port_rates.rate(config, ports, port_rates.runs(config, port_rates.TOTAL, 0),
                            writes=writes)
    assert 0.9 * ports.count * ports.data_bytes <= found <= ports.count * ports.data_bytes


def test_runs_a_power_of_two_apart_use_all_ports() -> None:
    config, ports = KV260, MemoryPorts(count=4, data_bytes=16)
    found = port_rates.rate(config, ports, port_rates.runs(config, 1024, 4096))
    assert found >= 0.9 * ports.count * ports.data_bytes


@pytest.mark.parametrize("shape", SHAPES)
def test_the_port_of_an_address_is_the_xor_of_its_digits(shape: str) -> None:
    config, ports = SHAPES[shape]
    address, chosen, length = Signal(config.axi_address_bits), Signal(2), Signal(9)
    m = Module()
    m.d.comb += [chosen.eq(port_of(config, ports, address)),
                 length.eq(widened(config, ports, Const(config.axi_burst_beats - 1, 8)))]
    rng = random.Random(7)

    async def bench(ctx: Any) -> None:
        assert ctx.get(length) == config.axi_burst_beats * ports.ratio(config) - 1
        for _ in range(200):
            value = rng.getrandbits(config.axi_address_bits)
            ctx.set(address, value)
            assert ctx.get(chosen) == port_number(config, ports, value)
            await ctx.tick()

    m.d.sync += Signal().eq(0)
    simulate(m, bench)


@pytest.mark.parametrize(("options", "message"), [
    ({"count": 3, "data_bytes": 8}, "count = 3"),
    ({"count": 2, "data_bytes": 12}, "data_bytes = 12"),
])
def test_ports_that_cannot_be_built_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MemoryPorts(**options)


@pytest.mark.parametrize(("config", "data_bytes", "message"), [
    (TINY, 16, r"data_bytes = 16 of memory ports must divide axi_data_bytes \(8\)"),
    (dataclasses.replace(TINY, axi_burst_beats=256), 4, "more than 256 of 4"),
])
def test_ports_that_do_not_fit_the_core_are_refused(
    config: AcceleratorConfig, data_bytes: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        MemoryPorts(count=2, data_bytes=data_bytes).ratio(config)
