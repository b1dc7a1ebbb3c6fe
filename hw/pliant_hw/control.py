"""Start, completion, faults, watchdog and soft reset of the core."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import AcceleratorConfig
from pliant.spec.registers import Fault, FaultUnit
from pliant_hw.layouts import INDEX_BITS, FaultReport

WATCHDOG_BITS = 32


class CoreControl(wiring.Component):
    """Runs one program at a time and stops at the first fault.

    A start resets all units first, so that every program begins in the same state; buffers keep
    their contents. After End, after a fault and for a reset, `halt` keeps the DMA engines from
    starting bursts; the units are reset only when nothing is outstanding on the bus.

    Parameters
    ----------
    config : AcceleratorConfig
    faults : names of the units that report faults, highest priority first

    Members
    -------
    start, reset : In   pulses from the register file
    watchdog : In   longest run in cycles, 0 for no limit
    end : In   pulse: the program is completed
    index : In   index of the instruction decoded last, reported with WATCHDOG
    bus_idle : In   no AXI burst is outstanding
    fault_<name> : In(FaultReport)
    unit_reset, unit_start : Out   to the units; `unit_start` is a pulse after `unit_reset`, which
        is a register
    halt : Out   start no further burst
    running, done, fault, draining : Out   status bits
    done_event, fault_event : Out   pulses for the interrupt
    interrupt_clear : Out   what was pending is of no more interest: a start that is not ignored, or
        a reset
    code, unit, instruction, address : Out   the latched fault
    """

    start: Signal
    reset: Signal
    watchdog: Signal
    end: Signal
    index: Signal
    bus_idle: Signal
    unit_reset: Signal
    unit_start: Signal
    halt: Signal
    running: Signal
    done: Signal
    fault: Signal
    draining: Signal
    done_event: Signal
    fault_event: Signal
    interrupt_clear: Signal
    code: Signal
    unit: Signal
    instruction: Signal
    address: Signal

    def __init__(self, *, config: AcceleratorConfig, faults: Sequence[str]) -> None:
        self._config = config
        self._faults = tuple(faults)
        super().__init__({
            "start": In(1), "reset": In(1), "watchdog": In(WATCHDOG_BITS), "end": In(1),
            "index": In(INDEX_BITS), "bus_idle": In(1),
            **{f"fault_{name}": In(FaultReport(config)) for name in faults},
            "unit_reset": Out(1), "unit_start": Out(1), "halt": Out(1),
            "running": Out(1), "done": Out(1), "fault": Out(1), "draining": Out(1),
            "done_event": Out(1), "fault_event": Out(1), "interrupt_clear": Out(1),
            "code": Out(Fault), "unit": Out(FaultUnit), "instruction": Out(INDEX_BITS),
            "address": Out(config.axi_address_bits),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cycles = Signal(WATCHDOG_BITS)
        m.d.sync += [self.done_event.eq(0), self.fault_event.eq(0), self.unit_reset.eq(0)]

        def begin_reset() -> None:
            with m.If(self.reset):
                m.d.sync += [self.running.eq(0), self.done_event.eq(0), self.fault_event.eq(0)]
                m.next = "drain"

        with m.FSM():
            with m.State("idle"):
                with m.If(self.start):
                    m.d.comb += self.interrupt_clear.eq(1)
                    m.d.sync += [self.running.eq(1), self.done.eq(0), cycles.eq(0),
                                 self.unit_reset.eq(1)]
                    m.next = "clear"
                begin_reset()
            with m.State("clear"):  # `unit_reset` is high
                m.d.comb += self.halt.eq(1)
                m.next = "begin"
                begin_reset()
            with m.State("begin"):
                m.d.comb += self.unit_start.eq(1)
                m.next = "run"
                begin_reset()
            with m.State("run"):
                m.d.sync += cycles.eq(cycles + 1)
                with m.If(self.end):
                    m.next = "finish"
                self._stop_on_fault(m, cycles)
                begin_reset()
            with m.State("finish"):  # fetch may have read ahead
                m.d.comb += self.halt.eq(1)
                with m.If(self.bus_idle):
                    m.d.sync += [self.running.eq(0), self.done.eq(1), self.done_event.eq(1)]
                    m.next = "idle"
                begin_reset()
            with m.State("fault"):
                m.d.comb += self.halt.eq(1)
                begin_reset()
            with m.State("drain"):
                m.d.comb += [self.halt.eq(1), self.draining.eq(1), self.interrupt_clear.eq(1)]
                with m.If(self.bus_idle):
                    m.d.sync += self.unit_reset.eq(1)
                    m.next = "drained"
            with m.State("drained"):  # `unit_reset` is high
                m.d.comb += [self.halt.eq(1), self.draining.eq(1), self.interrupt_clear.eq(1)]
                m.d.sync += [self.done.eq(0), self.fault.eq(0), self.code.eq(Fault.NONE),
                             self.unit.eq(0), self.instruction.eq(0), self.address.eq(0)]
                m.next = "idle"
        return m

    def _stop_on_fault(self, m: Module, cycles: Signal) -> None:
        def stop(code: object, unit: object, index: object, address: object) -> None:
            m.d.sync += [
                self.code.eq(code), self.unit.eq(unit), self.instruction.eq(index),
                self.address.eq(address), self.fault.eq(1), self.fault_event.eq(1),
                self.running.eq(0),
            ]
            m.next = "fault"

        with m.If((self.watchdog != 0) & (cycles == self.watchdog)):
            stop(Fault.WATCHDOG, FaultUnit.CONTROL, self.index, 0)
        for name in reversed(self._faults):  # a later assignment wins
            report = getattr(self, f"fault_{name}")
            with m.If(report.valid):
                stop(report.code, report.unit, report.index, report.address)
