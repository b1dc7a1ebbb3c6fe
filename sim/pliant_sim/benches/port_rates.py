"""Bytes a cycle that a DMA engine moves over a board's memory ports, by Amaranth's simulator.

``python -m pliant_sim.benches.port_rates kv260`` prints a table. Each port takes and gives a beat
in every cycle and answers after LATENCY cycles.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from amaranth import Module
from amaranth.lib import wiring

from pliant.spec.config import AcceleratorConfig
from pliant.spec.platform import platform
from pliant.spec.registers import FaultUnit
from pliant_hw.axi import LOAD_ID
from pliant_hw.board.boards import core_ports
from pliant_hw.dma import DmaReader, DmaWriter
from pliant_hw.memory_ports import MemoryPorts
from pliant_hw.read_interleaver import ReadInterleaver
from pliant_hw.write_interleaver import WriteInterleaver
from pliant_sim.benches.axi_memory import AxiMemory
from pliant_sim.benches.simulate import simulate

LATENCY = 60
"""Cycles from an address to its first beat, and from the last beat of a write to its response."""

TOTAL = 1 << 16
"""Bytes that are moved."""

Run = tuple[int, int]
"""Address and beats."""


class Engine(wiring.Component):  # type: ignore[type-arg]  # generic in the stubs only
    """A DMA engine and the interleaver behind it."""

    def __init__(self, config: AcceleratorConfig, ports: MemoryPorts, *, writes: bool) -> None:
        super().__init__({})
        self.dma: Any = (DmaWriter(config=config, unit=FaultUnit.STORE) if writes
                         else DmaReader(config=config, unit=FaultUnit.LOAD, axi_id=LOAD_ID))
        self.interleaver: Any = (WriteInterleaver if writes else ReadInterleaver)(
            config=config, ports=ports)

    def elaborate(self, platform: object) -> Module:
        """Join the two."""
        m = Module()
        m.submodules.dma, m.submodules.interleaver = self.dma, self.interleaver
        wiring.connect(m, self.dma.axi, self.interleaver.core)
        return m


def runs(config: AcceleratorConfig, size: int, stride: int) -> list[Run]:
    """Return runs of `size` bytes, `stride` bytes apart, TOTAL in sum."""
    return [(index * stride, size // config.axi_data_bytes) for index in range(TOTAL // size)]


def rate(
    config: AcceleratorConfig, ports: MemoryPorts, wanted: Sequence[Run], *, writes: bool = False
) -> float:
    """Return bytes a cycle: from the first beat to the last, less the time of a last response."""
    engine = Engine(config, ports, writes=writes)
    dma = engine.dma
    memories = [AxiMemory(config=config, ports=ports, data=bytearray(wanted[-1][0] + TOTAL),
                          stall=0, latency=(LATENCY, LATENCY)) for _ in range(ports.count)]
    beats = sum(count for _, count in wanted)
    times: list[int] = []

    async def feed(ctx: Any) -> None:
        ctx.set(dma.window_limit, 1 << 40)
        for index, (address, count) in enumerate(wanted):
            ctx.set(dma.runs.payload, {
                "address": address, "beats": count, "last": index == len(wanted) - 1})
            ctx.set(dma.runs.valid, 1)
            await ctx.tick().until(dma.runs.ready)
        ctx.set(dma.runs.valid, 0)

    async def move(ctx: Any) -> None:
        left, cycle = beats, 0
        ctx.set(dma.beats.valid if writes else dma.beats.ready, 1)
        while left or not ctx.get(dma.idle):
            if writes:
                ctx.set(dma.beats.payload, {"last": left == 1})
                ctx.set(dma.beats.valid, left > 0)
            *_, moves = await ctx.tick().sample(dma.beats.valid & dma.beats.ready)
            left -= moves
            cycle += 1
            if moves or not left:
                times.append(cycle)

    serve = "serve_writes" if writes else "serve_reads"
    simulate(engine, feed, move, background=[
        partial(getattr(memory, serve), bus=engine.interleaver.ports[index])
        for index, memory in enumerate(memories)], limit=100_000)
    return beats * config.axi_data_bytes / (times[-1] - times[0] - (LATENCY if writes else 0))


def main(name: str) -> None:
    """Print the rates of a board for one long run and for short ones."""
    board = platform(name)
    config, ports = board.config, core_ports(board)
    if ports is None:
        sys.exit(f"{name} has one port")
    longest = config.axi_burst_beats * config.axi_data_bytes
    single = MemoryPorts(count=1, data_bytes=ports.data_bytes)
    patterns = [(TOTAL, TOTAL), (longest, 4 * longest), (longest // 2, longest),
                (longest // 4, 4 * longest), (longest // 2, 7 * longest // 4)]
    print(f"{name}: {ports.count} ports of {ports.data_bytes} bytes, latency {LATENCY}")
    for size, stride in patterns:
        wanted = runs(config, size, stride)
        print(f"{size:6} bytes every {stride:6}: "
              f"reads {rate(config, ports, wanted):5.1f}, by one port "
              f"{rate(config, single, wanted):5.1f}; "
              f"writes {rate(config, ports, wanted, writes=True):5.1f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
