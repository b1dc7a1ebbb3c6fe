"""The DMA engines against the AXI memory of cocotbext-axi: pauses, errors, halts.

The variable MEMORY_PINS names what the pins of each master begin with; a comma is between them. All
see the same bytes.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import cocotb
from cocotbext.axi import AxiBus, AxiRam

from pliant.spec.registers import Fault
from pliant_hw.bursts import run_layout
from pliant_hw.dma import beat_layout
from pliant_sim.benches.bus_units import CONFIG
from pliant_sim.benches.signals import Unit

BEAT = CONFIG.axi_data_bytes
SIZE = 1 << 15
RUNS = 60
TIMEOUT = 40_000

Runs = list[tuple[int, int]]


class Bench:
    """The design, its memory and what both hold."""

    def __init__(self, dut: Any) -> None:
        self.random = random.Random(int(cocotb.RANDOM_SEED))
        self.units = {name: Unit(dut, name) for name in ("fetch", "load", "store")}
        self.rams: list[Any] = []
        for prefix in os.environ["MEMORY_PINS"].split(","):
            self.rams.append(AxiRam(
                AxiBus.from_prefix(dut, prefix), dut.clk, dut.rst, size=SIZE,
                mem=self.rams[0].mem if self.rams else None))
        self.content = bytearray(self.random.randbytes(SIZE))
        self.rams[0].write(0, self.content)
        for ram in self.rams:
            ram.read_if.log.setLevel("WARNING")
            ram.write_if.log.setLevel("WARNING")

    async def start(self, pause: float) -> None:
        """Reset, open the window, let each channel pause for a share of the cycles."""
        channels = [channel for ram in self.rams for channel in (
            ram.read_if.ar_channel, ram.read_if.r_channel, ram.write_if.aw_channel,
            ram.write_if.w_channel, ram.write_if.b_channel)]
        for channel in channels:
            if pause:
                channel.set_pause_generator(self._pauses(pause))
        for unit in self.units.values():
            unit.drive(window_base=0, window_limit=SIZE, halt=0, runs_valid=0)
        self.units["store"].drive(beats_valid=0)
        for name in ("fetch", "load"):
            self.units[name].drive(beats_ready=0)
        await self.units["load"].start()

    def _pauses(self, share: float) -> Iterator[bool]:
        source = random.Random(self.random.random())
        while True:
            yield source.random() < share

    def random_runs(self, count: int) -> Runs:
        """Return runs anywhere in memory, many of them across 4 KiB boundaries."""
        runs = []
        for _ in range(count):
            beats = self.random.choice([1, 2, 3, 15, 16, 17, 33, 50])
            start = self.random.choice([
                self.random.randrange(SIZE // BEAT - beats + 1),
                4096 // BEAT * self.random.randrange(1, 8) - self.random.randrange(1, 20),
            ])
            runs.append((min(start, SIZE // BEAT - beats) * BEAT, beats))
        return runs

    def fail_at(self, channels: str, method: str, address: int) -> None:
        """Let the memory answer the burst that begins at `address` with SLVERR."""
        for ram in self.rams:
            self._fail(getattr(ram, channels), method, address)

    def _fail(self, interface: Any, method: str, address: int) -> None:
        original: Callable[..., Any] = getattr(interface, method)

        async def refuse(at: int, *arguments: Any) -> Any:
            if at == address:
                raise ValueError(f"{at:#x} was told to fail")
            return await original(at, *arguments)

        setattr(interface, method, refuse)


def pack_run(address: int, beats: int, *, last: bool, index: int) -> int:
    """Return a run as the bits of its payload."""
    layout = run_layout(CONFIG)
    constant: Any = layout.const({"address": address, "beats": beats, "last": last, "index": index})
    return int(constant.as_bits())


async def send_runs(unit: Unit, runs: Runs) -> None:
    """Offer runs one after the other; `index` counts them."""
    for index, (address, beats) in enumerate(runs):
        await send(unit, "runs", pack_run(address, beats, last=index == len(runs) - 1, index=index))


async def send(unit: Unit, stream: str, payload: int) -> None:
    """Offer one payload on an input stream until it is taken."""
    unit.drive(**{f"{stream}_payload": payload, f"{stream}_valid": 1})
    for _ in range(TIMEOUT):
        await unit.settle()
        ready = unit.read(f"{stream}_ready")
        await unit.tick()
        if ready:
            unit.drive(**{f"{stream}_valid": 0})
            return
    raise AssertionError(f"{stream} was not taken in {TIMEOUT} cycles")


async def receive(unit: Unit, count: int, source: random.Random) -> list[int]:
    """Take `count` beats, ready for three quarters of the cycles."""
    beats: list[int] = []
    for _ in range(TIMEOUT):
        if len(beats) == count:
            unit.drive(beats_ready=0)
            return beats
        ready = source.random() < 0.75
        unit.drive(beats_ready=ready)
        await unit.settle()
        if ready and unit.read("beats_valid"):
            beats.append(unit.read("beats_payload"))
        await unit.tick()
    raise AssertionError(f"{len(beats)} of {count} beats came in {TIMEOUT} cycles")


async def until(unit: Unit, port: str) -> None:
    """Wait until a port is high."""
    for _ in range(TIMEOUT):
        if unit.read(port):
            return
        await unit.tick()
    raise AssertionError(f"{port} stayed low for {TIMEOUT} cycles")


async def read_back(bench: Bench, name: str) -> None:
    """Read random runs with one engine and compare every beat and the end mark."""
    unit, source = bench.units[name], random.Random(bench.random.random())
    runs = bench.random_runs(RUNS)
    total = sum(beats for _, beats in runs)
    feeder = cocotb.start_soon(send_runs(unit, runs))
    found = await receive(unit, total, source)
    await feeder
    data = b"".join(bytes(bench.content[at:at + beats * BEAT]) for at, beats in runs)
    layout: Any = beat_layout(CONFIG)
    expected = [int.from_bytes(data[i:i + BEAT], "little") for i in range(0, len(data), BEAT)]
    values = [layout.from_bits(bits) for bits in found]
    assert [value.data for value in values] == expected
    assert [value.last for value in values] == [0] * (total - 1) + [1]


@cocotb.test()
@cocotb.parametrize(pause=[0.0, 0.3, 0.7])
async def two_readers_get_their_own_data(dut: Any, pause: float) -> None:
    """Fetch and load read at once; every beat equals the memory."""
    bench = Bench(dut)
    await bench.start(pause)
    fetch = cocotb.start_soon(read_back(bench, "fetch"))
    await read_back(bench, "load")
    await fetch
    for name in ("fetch", "load"):
        assert bench.units[name].read("idle")
        assert not bench.units[name].read("fault_valid")


@cocotb.test()
@cocotb.parametrize(pause=[0.0, 0.3, 0.7])
async def writer_leaves_exactly_its_runs_in_memory(dut: Any, pause: float) -> None:
    """The whole memory is compared once the writer reports completion."""
    bench = Bench(dut)
    await bench.start(pause)
    unit = bench.units["store"]
    runs = bench.random_runs(RUNS)
    data = bytearray(bench.random.randbytes(BEAT * sum(beats for _, beats in runs)))
    feeder = cocotb.start_soon(send_runs(unit, runs))
    supplier = cocotb.start_soon(send_beats(unit, data, last=True))
    taken = 0
    for address, beats in runs:
        bench.content[address:address + beats * BEAT] = data[taken:taken + beats * BEAT]
        taken += beats * BEAT
    await until(unit, "completed")
    assert bench.rams[0].read(0, SIZE) == bytes(bench.content)
    await feeder
    await supplier
    await unit.tick()
    assert unit.read("idle")
    assert not unit.read("fault_valid")


async def send_beats(unit: Unit, data: bytes | bytearray, *, last: bool) -> None:
    """Offer data beat by beat; `last` marks the final one."""
    layout: Any = beat_layout(CONFIG)
    for at in range(0, len(data), BEAT):
        word = int.from_bytes(data[at:at + BEAT], "little")
        ends = last and at + BEAT == len(data)
        await send(unit, "beats", int(layout.const({"data": word, "last": ends}).as_bits()))


@cocotb.test()
async def read_error_stops_the_reader(dut: Any) -> None:
    """SLVERR becomes a fault with the burst's address; everything in flight is drained."""
    bench = Bench(dut)
    await bench.start(0.2)
    unit = bench.units["load"]
    bench.fail_at("read_if", "_read", 0x480)
    cocotb.start_soon(send_runs(unit, [(0, 16), (0x400, 64), (0x1000, 50), (0x2000, 50)]))
    unit.drive(beats_ready=1)
    await until(unit, "fault_valid")
    assert unit.read("fault_code") == Fault.AXI_READ
    assert unit.read("fault_address") == 0x480
    assert unit.read("fault_index") == 1
    await until(unit, "idle")


@cocotb.test()
async def write_error_stops_the_writer(dut: Any) -> None:
    """SLVERR becomes a fault with the burst's address; completion is never reported."""
    bench = Bench(dut)
    await bench.start(0.2)
    unit = bench.units["store"]
    bench.fail_at("write_if", "_write", 0x480)
    cocotb.start_soon(send_runs(unit, [(0x400, 64), (0x1000, 16)]))
    cocotb.start_soon(send_beats(unit, bytes(80 * BEAT), last=True))
    for _ in range(TIMEOUT):
        assert not unit.read("completed")
        if unit.read("fault_valid"):
            break
        await unit.tick()
    assert unit.read("fault_code") == Fault.AXI_WRITE
    assert unit.read("fault_address") == 0x480
    assert unit.read("fault_index") == 0
    await until(unit, "idle")


@cocotb.test()
async def halted_reader_drains_and_starts_again(dut: Any) -> None:
    """A halt in the midst of bursts leaves nothing outstanding and nothing stale."""
    bench = Bench(dut)
    await bench.start(0.4)
    unit = bench.units["load"]
    for wait in range(0, 100, 9):
        feeder = cocotb.start_soon(send_runs(unit, [(0x800, 70), (0x1800, 70)]))
        unit.drive(beats_ready=1)
        for _ in range(wait):
            await unit.tick()
        feeder.cancel()
        unit.drive(runs_valid=0, halt=1)
        await unit.tick()
        await until(unit, "idle")
        await unit.tick()
        unit.drive(halt=0, beats_ready=0)
        await read_back(bench, "load")


@cocotb.test()
async def halted_writer_finishes_without_writing(dut: Any) -> None:
    """Bursts that were offered end with empty strobes; memory keeps what it had."""
    bench = Bench(dut)
    await bench.start(0.4)
    unit = bench.units["store"]
    for supplied in range(0, 40, 7):
        address = 0x1F80
        await send_runs(unit, [(address, 60)])
        data = bench.random.randbytes(supplied * BEAT)
        await send_beats(unit, data, last=False)
        unit.drive(halt=1)
        bench.content[address:address + len(data)] = data
        await unit.tick()
        await until(unit, "idle")
        unit.drive(halt=0)
        assert bench.rams[0].read(0, SIZE) == bytes(bench.content)
        assert not unit.read("fault_valid")
