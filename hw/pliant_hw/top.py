"""The whole core: the engine behind its registers and control, with flat AXI pins."""

from __future__ import annotations

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
from pliant_hw.registers import RegisterFile


def pins(config: AcceleratorConfig) -> dict[str, wiring.Member]:
    """Return the ports of the core by the names that AXI tools look for."""
    address, data_bits = config.axi_address_bits, 8 * config.axi_data_bytes
    lite = {
        "awaddr": In(12), "awprot": In(3), "awvalid": In(1), "awready": Out(1),
        "wdata": In(32), "wstrb": In(4), "wvalid": In(1), "wready": Out(1),
        "bresp": Out(2), "bvalid": Out(1), "bready": In(1),
        "araddr": In(12), "arprot": In(3), "arvalid": In(1), "arready": Out(1),
        "rdata": Out(32), "rresp": Out(2), "rvalid": Out(1), "rready": In(1),
    }
    memory = {
        f"{channel}{name}": Out(width)
        for channel in ("ar", "aw")
        for name, width in (("id", ID_BITS), ("addr", address), ("len", 8), ("size", 3),
                            ("burst", 2), ("cache", 4), ("prot", 3), ("valid", 1))
    }
    memory |= {
        "arready": In(1), "awready": In(1),
        "rid": In(ID_BITS), "rdata": In(data_bits), "rresp": In(2), "rlast": In(1),
        "rvalid": In(1), "rready": Out(1),
        "wdata": Out(data_bits), "wstrb": Out(config.axi_data_bytes), "wlast": Out(1),
        "wvalid": Out(1), "wready": In(1),
        "bid": In(ID_BITS), "bresp": In(2), "bvalid": In(1), "bready": Out(1),
    }
    return {
        "irq": Out(1),
        **{f"s_axi_{name}": member for name, member in lite.items()},
        **{f"m_axi_{name}": member for name, member in memory.items()},
        "trace_start": Out(len(Unit)),
        "trace_done": Out(len(Unit)),
    }


class PliantCore(wiring.Component):
    """The accelerator as one block: AXI4-Lite in, AXI4 out, an interrupt.

    Parameters
    ----------
    config : AcceleratorConfig
    array : ArrayFactory
        Which of the matrix arrays to use.

    Members
    -------
    s_axi_* : AXI4-Lite slave, 32 bits, see :mod:`pliant.spec.registers`
    m_axi_* : AXI4 master, axi_data_bytes wide
    irq : Out   level, high while an enabled interrupt is pending
    trace_start, trace_done : Out   pulses as a unit takes and completes an instruction, one bit for
        each Unit; for simulators, left open on a board
    """

    irq: Signal
    trace_start: Signal
    trace_done: Signal

    def __init__(
        self, *, config: AcceleratorConfig, array: ArrayFactory = MatrixArray
    ) -> None:
        self._config = config
        self._array = array
        super().__init__(pins(config))

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
        self._connect_memory(m, engine)
        return m

    def _connect_lite(self, m: Module, axi: Any) -> None:
        for channel, fields in {"aw": ["addr"], "w": ["data", "strb"], "ar": ["addr"]}.items():
            port = getattr(axi, channel)
            m.d.comb += [port.valid.eq(self._pin("s", channel, "valid")),
                         self._pin("s", channel, "ready").eq(port.ready)]
            m.d.comb += [port.payload[field].eq(self._pin("s", channel, field))
                         for field in fields]
        for channel, fields in {"b": ["resp"], "r": ["data", "resp"]}.items():
            port = getattr(axi, channel)
            m.d.comb += [self._pin("s", channel, "valid").eq(port.valid),
                         port.ready.eq(self._pin("s", channel, "ready"))]
            m.d.comb += [self._pin("s", channel, field).eq(port.payload[field])
                         for field in fields]

    def _connect_memory(self, m: Module, engine: Engine) -> None:
        read, write = engine.read, engine.write
        outputs: list[tuple[str, Any, list[str]]] = [
            ("ar", read.ar, ["id", "addr", "len"]),
            ("aw", write.aw, ["id", "addr", "len"]),
            ("w", write.w, ["data", "strb", "last"]),
        ]
        inputs: list[tuple[str, Any, list[str]]] = [
            ("r", read.r, ["id", "data", "resp", "last"]),
            ("b", write.b, ["id", "resp"]),
        ]
        for channel, port, fields in outputs:
            m.d.comb += [self._pin("m", channel, "valid").eq(port.valid),
                         port.ready.eq(self._pin("m", channel, "ready"))]
            m.d.comb += [self._pin("m", channel, field).eq(port.payload[field])
                         for field in fields]
        for channel in ("ar", "aw"):
            m.d.comb += [
                self._pin("m", channel, "size").eq(burst_size(self._config)),
                self._pin("m", channel, "burst").eq(BURST_INCR),
                self._pin("m", channel, "cache").eq(CACHE_MODIFIABLE_BUFFERABLE),
                self._pin("m", channel, "prot").eq(PROT_UNPRIVILEGED_NONSECURE),
            ]
        for channel, port, fields in inputs:
            m.d.comb += [port.valid.eq(self._pin("m", channel, "valid")),
                         self._pin("m", channel, "ready").eq(port.ready)]
            m.d.comb += [port.payload[field].eq(self._pin("m", channel, field))
                         for field in fields]

    def _pin(self, side: str, channel: str, name: str) -> Signal:
        pin: Signal = getattr(self, f"{side}_axi_{channel}{name}")
        return pin
