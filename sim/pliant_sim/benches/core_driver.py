"""Driver, memory and monitor around the pins of the whole core, for its cocotb bench."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge, with_timeout
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiResp, AxiSlave
from numpy.typing import NDArray

from pliant.driver.image import BlockImage
from pliant.spec.config import PRESETS
from pliant.spec.isa import Unit
from pliant.spec.program import Program
from pliant.spec.registers import REGISTERS, SEGMENTS, Control, Interrupt
from pliant_hw.axi import BURST_INCR
from pliant_hw.memory_ports import MemoryPorts
from pliant_hw.top import memory_prefixes
from pliant_sim.benches.axi_memory import PAGE_BYTES

CONFIG = PRESETS["tiny"]
BEAT = CONFIG.axi_data_bytes
BASE = 0x12_3400_0000
"""Address of the memory: above 4 GiB, so that every address bit of the core matters."""

CYCLE_NS = 10
RUN_LIMIT = 60_000
"""Cycles after which a run, or a reset, counts as hung."""


@dataclass(frozen=True, eq=False)
class Job:
    """A program with its inputs and the outputs that it must leave, int8 (channels, h, w)."""

    program: Program
    inputs: tuple[NDArray[np.int8], ...]
    outputs: tuple[NDArray[np.int8], ...]


@dataclass(frozen=True)
class Burst:
    """An accepted AR or AW."""

    axi_id: int
    address: int
    beats: int
    beat_bytes: int

    @property
    def end(self) -> int:
        """First address behind it."""
        return self.address + self.beats * self.beat_bytes


class Memory:
    """The image at its addresses; an access elsewhere or to a refused beat raises ValueError.

    cocotbext-axi answers a beat whose access raises with SLVERR.
    """

    def __init__(self) -> None:
        self.image: BlockImage | None = None
        self.refused_reads: set[int] = set()
        self.refused_writes: set[int] = set()

    async def read(self, address: int, length: int) -> bytes:
        """Return `length` bytes."""
        return self._bytes(address, length, self.refused_reads).tobytes()

    async def write(self, address: int, data: bytes) -> None:
        """Store bytes of one beat."""
        self._bytes(address, len(data), self.refused_writes)[:] = np.frombuffer(data, np.uint8)

    def _bytes(self, address: int, length: int, refused: set[int]) -> NDArray[np.uint8]:
        if self.image is None or address // BEAT * BEAT in refused:
            raise ValueError(f"{address:#x} was told to fail")
        start = address - self.image.base
        if not 0 <= start <= start + length <= len(self.image.data):
            raise ValueError(f"{address:#x} lies outside the memory")
        return self.image.data[start:start + length]


@dataclass
class Monitor:
    """What passes the pins of a master and the trace pins, checked as it does.

    Every offer of the core stays as it is until it is accepted (AXI4, A3.2.1); no burst is longer
    than configured or crosses 4 KiB (A3.4.1); no id has more than `outstanding` in flight.
    """

    dut: Any
    prefix: str
    ratio: int
    outstanding: int
    cycles: int = 0
    reads: list[Burst] = field(default_factory=list)
    writes: list[Burst] = field(default_factory=list)
    read_beats: int = 0
    write_beats: int = 0
    open_reads: Counter[int] = field(default_factory=Counter)
    """Bursts in flight by ID."""
    open_writes: int = 0
    started: Counter[Unit] = field(default_factory=Counter)
    done: Counter[Unit] = field(default_factory=Counter)

    def clear(self) -> None:
        """Forget all but the bursts in flight."""
        self.cycles = self.read_beats = self.write_beats = 0
        for record in (self.reads, self.writes, self.started, self.done):
            record.clear()

    @property
    def in_flight(self) -> int:
        """Bursts that the memory has accepted and not answered in full."""
        return self.open_reads.total() + self.open_writes

    async def watch(self) -> None:
        """Look at the pins in every cycle, for ever; to be started after the reset."""
        offers = {"ar": ("id", "addr", "len", "size", "burst"), "w": ("data", "strb", "last"),
                  "aw": ("id", "addr", "len", "size", "burst")}
        held: dict[str, tuple[int, ...]] = {}
        while True:
            await FallingEdge(self.dut.clk)
            self.cycles += 1
            for channel, names in offers.items():
                valid = self._pin(channel, "valid")
                payload = tuple(self._pin(channel, name) for name in names) if valid else ()
                if channel in held:
                    assert payload == held.pop(channel), f"{channel} changed before it was accepted"
                if valid and not self._pin(channel, "ready"):
                    held[channel] = payload
                elif valid:
                    self._accepted(channel, payload)
            if self._pin("r", "valid") and self._pin("r", "ready"):
                self.read_beats += 1
                self.open_reads[self._pin("r", "id")] -= self._pin("r", "last")
            if self._pin("b", "valid") and self._pin("b", "ready"):
                self.open_writes -= 1
            for counter, pins in ((self.started, self.dut.trace_start),
                                  (self.done, self.dut.trace_done)):
                mask = int(pins.value)
                counter.update(unit for unit in Unit if mask >> unit & 1)

    def _pin(self, channel: str, name: str) -> int:
        return int(getattr(self.dut, f"{self.prefix}_{channel}{name}").value)

    def _accepted(self, channel: str, payload: tuple[int, ...]) -> None:
        if channel == "w":
            self.write_beats += 1
            return
        beat_bytes = BEAT // self.ratio
        burst = Burst(payload[0], payload[1], payload[2] + 1, beat_bytes)
        assert burst.beats <= CONFIG.axi_burst_beats * self.ratio, burst
        assert payload[3:] == (beat_bytes.bit_length() - 1, BURST_INCR), burst
        assert burst.address // PAGE_BYTES == (burst.end - 1) // PAGE_BYTES, burst
        if channel == "ar":
            self.reads.append(burst)
            self.open_reads[burst.axi_id] += 1
            assert self.open_reads[burst.axi_id] <= self.outstanding, burst
        else:
            self.writes.append(burst)
            self.open_writes += 1
            assert self.open_writes <= self.outstanding, burst


class Core:
    """The core with a driver on its registers and a memory on its bus, or behind all its ports.

    Parameters
    ----------
    dut : cocotb handle of the core
    ports : MemoryPorts or None
        Those of the core.

    Attributes
    ----------
    memory : Memory
    monitors : list of Monitor
        One for each port; `monitor` is the first.
    slaves : list of cocotbext.axi.AxiSlave
        The memory's side of each port; its channels can be paused. `slave` is the first.
    random : random.Random
        From cocotb's seed, which stands at the head of the log.
    """

    def __init__(self, dut: Any, ports: MemoryPorts | None = None) -> None:
        self.dut = dut
        self.random = random.Random(int(cocotb.RANDOM_SEED))
        self.memory = Memory()
        # At a port, the reads of fetch and load have one id.
        ratio, readers = (1, 1) if ports is None else (ports.ratio(CONFIG), 2)
        self.monitors = [Monitor(dut, prefix, ratio, readers * CONFIG.axi_outstanding)
                         for prefix in memory_prefixes(ports)]
        self.monitor = self.monitors[0]
        self.master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), dut.clk, dut.rst)
        self.slaves = [AxiSlave(AxiBus.from_prefix(dut, prefix), dut.clk, dut.rst,
                                target=self.memory) for prefix in memory_prefixes(ports)]
        self.slave = self.slaves[0]
        for interface in self._interfaces():
            interface.log.setLevel("ERROR")  # neither every burst nor every refused one

    def _interfaces(self) -> tuple[Any, ...]:
        return (self.master.read_if, self.master.write_if, *(
            interface for slave in self.slaves for interface in (slave.read_if, slave.write_if)))

    async def power_on(self, pause: float = 0) -> None:
        """Start the clock and reset; every channel pauses for a share of the cycles."""
        self.dut.rst.value = 1
        Clock(self.dut.clk, CYCLE_NS, unit="ns").start()
        await self.ticks(3)
        self.dut.rst.value = 0
        await self.ticks(2)
        for monitor in self.monitors:
            cocotb.start_soon(monitor.watch())
        if pause:
            for interface in self._interfaces():
                for name in ("aw", "w", "b", "ar", "r"):
                    if hasattr(interface, f"{name}_channel"):
                        channel = getattr(interface, f"{name}_channel")
                        channel.set_pause_generator(self._pauses(pause))

    def _pauses(self, share: float) -> Iterator[bool]:
        source = random.Random(self.random.random())
        while True:
            yield source.random() < share

    async def ticks(self, count: int) -> None:
        """Wait for some falling edges of the clock: there, every simulator has settled."""
        for _ in range(count):
            await FallingEdge(self.dut.clk)

    async def write(self, name: str, value: int) -> None:
        """Write a register by name."""
        register = REGISTERS[name]
        data = value.to_bytes(4 * register.words, "little")
        assert (await self.master.write(register.address, data)).resp == AxiResp.OKAY

    async def read(self, name: str) -> int:
        """Read a register by name."""
        register = REGISTERS[name]
        answer = await self.master.read(register.address, 4 * register.words)
        assert answer.resp == AxiResp.OKAY
        return int.from_bytes(answer.data, "little")

    @property
    def irq(self) -> int:
        """Level of the interrupt pin."""
        return int(self.dut.irq.value)

    async def interrupt(self) -> None:
        """Wait for the rising edge of the interrupt pin."""
        await with_timeout(RisingEdge(self.dut.irq), RUN_LIMIT * CYCLE_NS, "ns")

    async def configure(self, job: Job) -> BlockImage:
        """Place a job in memory, tell the core where it lies, enable both interrupts."""
        image = BlockImage(job.program, CONFIG, base=BASE)
        self.memory.image = image
        values = {
            "program_base": image.program_base, "program_length": image.program_length,
            "window_base": image.window[0], "window_limit": image.window[1],
            **{f"segment_{index}": image.segment_bases[index] for index in range(SEGMENTS)},
            "interrupt_enable": Interrupt.DONE | Interrupt.FAULT,
        }
        for name, value in values.items():
            await self.write(name, value)
        return image

    async def start(self) -> None:
        """Write the start bit."""
        for monitor in self.monitors:
            monitor.clear()
        await self.write("control", Control.START)

    async def reset(self) -> None:
        """Soft reset, until the core is idle again."""
        await self.write("control", Control.RESET)
        await self.idle()

    async def idle(self) -> None:
        """Poll until no bit of the status is set."""
        for _ in range(RUN_LIMIT // 10):
            if await self.read("status") == 0:
                return
        raise AssertionError(f"status still reads {await self.read('status'):#x}")
