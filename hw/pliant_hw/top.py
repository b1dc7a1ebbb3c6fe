"""The whole core: the engine behind its registers and control, with flat AXI pins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amaranth import (
    Cat,
    ClockDomain,
    ClockSignal,
    DomainRenamer,
    Module,
    ResetInserter,
    ResetSignal,
    Signal,
)
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import AcceleratorConfig
from pliant.spec.isa import Unit
from pliant.spec.registers import SEGMENTS
from pliant_hw.array import ArrayFactory, MatrixArray
from pliant_hw.axi import (
    BURST_INCR,
    CACHE_MODIFIABLE_BUFFERABLE,
    ID_BITS,
    PROT_UNPRIVILEGED_NONSECURE,
    burst_size,
)
from pliant_hw.control import CoreControl
from pliant_hw.counters import Counters
from pliant_hw.engine import FAULT_SOURCES, Engine
from pliant_hw.memory_ports import MemoryPorts
from pliant_hw.read_interleaver import ReadInterleaver
from pliant_hw.registers import RegisterFile
from pliant_hw.write_interleaver import WriteInterleaver

SLAVE, MASTER = "s_axi", "m_axi"
"""What the pins of the AXI4-Lite slave begin with, and those of the AXI4 masters."""


def memory_prefixes(ports: MemoryPorts | None) -> tuple[str, ...]:
    """Return what the pins of each AXI4 master begin with."""
    return (MASTER,) if ports is None else tuple(
        f"{MASTER}_{index}" for index in range(ports.count))


def pins(
    config: AcceleratorConfig, ports: MemoryPorts | None = None
) -> dict[str, wiring.Member]:
    """Return the ports of the core by the names that AXI tools look for."""
    memory = _memory_pins(config, config.axi_data_bytes if ports is None else ports.data_bytes)
    lite = {
        "awaddr": In(12), "awprot": In(3), "awvalid": In(1), "awready": Out(1),
        "wdata": In(32), "wstrb": In(4), "wvalid": In(1), "wready": Out(1),
        "bresp": Out(2), "bvalid": Out(1), "bready": In(1),
        "araddr": In(12), "arprot": In(3), "arvalid": In(1), "arready": Out(1),
        "rdata": Out(32), "rresp": Out(2), "rvalid": Out(1), "rready": In(1),
    }
    return {
        "irq": Out(1),
        **{f"{SLAVE}_{name}": member for name, member in lite.items()},
        **{f"{prefix}_{name}": member for prefix in memory_prefixes(ports)
           for name, member in memory.items()},
        "trace_start": Out(len(Unit)),
        "trace_done": Out(len(Unit)),
    }


def _memory_pins(config: AcceleratorConfig, data_bytes: int) -> dict[str, wiring.Member]:
    members = {
        f"{channel}{name}": Out(width)
        for channel in ("ar", "aw")
        for name, width in (("id", ID_BITS), ("addr", config.axi_address_bits), ("len", 8),
                            ("size", 3), ("burst", 2), ("cache", 4), ("prot", 3), ("valid", 1))
    }
    return members | {
        "arready": In(1), "awready": In(1),
        "rid": In(ID_BITS), "rdata": In(8 * data_bytes), "rresp": In(2), "rlast": In(1),
        "rvalid": In(1), "rready": Out(1),
        "wdata": Out(8 * data_bytes), "wstrb": Out(data_bytes), "wlast": Out(1),
        "wvalid": Out(1), "wready": In(1),
        "bid": In(ID_BITS), "bresp": In(2), "bvalid": In(1), "bready": Out(1),
    }


class PliantCore(wiring.Component):
    """The accelerator as one block: AXI4-Lite in, AXI4 out, an interrupt.

    Parameters
    ----------
    config : AcceleratorConfig
    array : ArrayFactory
        Which of the matrix arrays to use.
    ports : MemoryPorts or None
        Spread memory accesses over so many masters; None for one, as wide as the core's own bus.

    Members
    -------
    s_axi_* : AXI4-Lite slave, 32 bits, see :mod:`pliant.spec.registers`
    m_axi_* : AXI4 master, axi_data_bytes wide; with `ports` m_axi_0_*, m_axi_1_* ...
    irq : Out   level, high while an enabled interrupt is pending
    trace_start, trace_done : Out   pulses as a unit takes and completes an instruction, one bit for
        each Unit; for simulators, left open on a board
    """

    irq: Signal
    trace_start: Signal
    trace_done: Signal

    def __init__(
        self, *, config: AcceleratorConfig, array: ArrayFactory = MatrixArray,
        ports: MemoryPorts | None = None,
    ) -> None:
        self._config = config
        self._array = array
        self._ports = ports
        super().__init__(pins(config, ports))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        # The reset is registered: no long path from a pin, and simulators need not evaluate the
        # whole core again whenever an input changes.
        reset = Signal(init=1, reset_less=True)
        core: Any = ClockDomain()
        m.domains.core = core
        m.d.sync += reset.eq(ResetSignal("sync"))
        m.d.comb += [core.clk.eq(ClockSignal("sync")), core.rst.eq(reset)]

        registers: Any = RegisterFile(config=config)  # members come from the register map
        control = CoreControl(config=config, faults=FAULT_SOURCES)
        counters = Counters()
        engine = Engine(config=config, array=self._array)
        in_core = DomainRenamer("core")
        m.submodules.registers = in_core(registers)
        m.submodules.control = in_core(control)
        m.submodules.counters = in_core(counters)
        m.submodules.engine = in_core(ResetInserter(control.unit_reset)(engine))

        m.d.comb += [
            control.start.eq(registers.start),
            control.reset.eq(registers.reset),
            control.watchdog.eq(registers.watchdog),
            control.end.eq(engine.end),
            control.index.eq(engine.index),
            control.bus_idle.eq(engine.bus_idle),
            registers.status.eq(
                Cat(control.running, control.done, control.fault, control.draining)),
            registers.fault_code.eq(control.code),
            registers.fault_unit.eq(control.unit),
            registers.fault_instruction.eq(control.instruction),
            registers.fault_address.eq(control.address),
            registers.done_event.eq(control.done_event),
            registers.fault_event.eq(control.fault_event),
            registers.interrupt_clear.eq(control.interrupt_clear),
            self.irq.eq(registers.irq),
            counters.clear.eq(control.unit_start),
            counters.running.eq(control.running),
            counters.events.eq(engine.events),
            registers.counters.eq(counters.values),
            engine.start.eq(control.unit_start),
            engine.halt.eq(control.halt),
            engine.program_base.eq(registers.program_base),
            engine.program_length.eq(registers.program_length),
            engine.window_base.eq(registers.window_base),
            engine.window_limit.eq(registers.window_limit),
            *(engine.segment_base[index].eq(getattr(registers, f"segment_{index}"))
              for index in range(SEGMENTS)),
            self.trace_start.eq(engine.trace_start),
            self.trace_done.eq(engine.trace_done),
        ]
        for name in FAULT_SOURCES:
            wiring.connect(m, getattr(engine, f"fault_{name}"), getattr(control, f"fault_{name}"))
        self._connect_lite(m, registers.axi)
        self._connect_memory(m, engine, in_core)
        return m

    def _connect_lite(self, m: Module, axi: Any) -> None:
        for channel, fields in {"aw": ["addr"], "w": ["data", "strb"], "ar": ["addr"]}.items():
            self._take(m, SLAVE, channel, getattr(axi, channel), fields)
        for channel, fields in {"b": ["resp"], "r": ["data", "resp"]}.items():
            self._give(m, SLAVE, channel, getattr(axi, channel), fields)

    def _connect_memory(
        self, m: Module, engine: Any, in_core: Callable[[Any], Any] = lambda unit: unit
    ) -> None:
        """Connect `read` and `write` of the engine to the pins, by way of interleavers if asked."""
        if self._ports is None:
            self._connect_master(m, MASTER, self._config.axi_data_bytes, engine.read, engine.write)
            return
        # A soft reset waits until nothing is in flight, so that these need none.
        reads = ReadInterleaver(config=self._config, ports=self._ports)
        writes = WriteInterleaver(config=self._config, ports=self._ports)
        m.submodules.reads, m.submodules.writes = in_core(reads), in_core(writes)
        wiring.connect(m, engine.read, reads.core)
        wiring.connect(m, engine.write, writes.core)
        for index, prefix in enumerate(memory_prefixes(self._ports)):
            self._connect_master(m, prefix, self._ports.data_bytes, reads.ports[index],
                                 writes.ports[index])

    def _connect_master(
        self, m: Module, prefix: str, data_bytes: int, read: Any, write: Any
    ) -> None:
        for channel, port in (("ar", read.ar), ("aw", write.aw)):
            self._give(m, prefix, channel, port, ["id", "addr", "len"])
            m.d.comb += [
                self._pin(prefix, channel, "size").eq(burst_size(data_bytes)),
                self._pin(prefix, channel, "burst").eq(BURST_INCR),
                self._pin(prefix, channel, "cache").eq(CACHE_MODIFIABLE_BUFFERABLE),
                self._pin(prefix, channel, "prot").eq(PROT_UNPRIVILEGED_NONSECURE),
            ]
        self._give(m, prefix, "w", write.w, ["data", "strb", "last"])
        self._take(m, prefix, "r", read.r, ["id", "data", "resp", "last"])
        self._take(m, prefix, "b", write.b, ["id", "resp"])

    def _give(self, m: Module, prefix: str, channel: str, port: Any, fields: list[str]) -> None:
        """Connect a stream that goes out to its pins."""
        m.d.comb += [
            self._pin(prefix, channel, "valid").eq(port.valid),
            port.ready.eq(self._pin(prefix, channel, "ready")),
            *(self._pin(prefix, channel, field).eq(port.payload[field]) for field in fields),
        ]

    def _take(self, m: Module, prefix: str, channel: str, port: Any, fields: list[str]) -> None:
        """Connect a stream that comes in to its pins."""
        m.d.comb += [
            port.valid.eq(self._pin(prefix, channel, "valid")),
            self._pin(prefix, channel, "ready").eq(port.ready),
            *(port.payload[field].eq(self._pin(prefix, channel, field)) for field in fields),
        ]

    def _pin(self, prefix: str, channel: str, name: str) -> Signal:
        pin: Signal = getattr(self, f"{prefix}_{channel}{name}")
        return pin
