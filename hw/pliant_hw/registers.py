"""The register file: the AXI4-Lite slave that the register map describes."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import ISA_VERSION, AcceleratorConfig
from pliant.spec.registers import (
    COMPLETION_CYCLES_BITS,
    COUNTER_BITS,
    COUNTERS,
    IDENTIFIER,
    REGISTERS,
    Access,
    Control,
    Interrupt,
    Register,
)
from pliant_hw.axi import LITE_ADDRESS_BITS, AxiLiteSignature, Response

WORD_BYTES = 4
_COUNTER_NAMES = tuple(name for name, _ in COUNTERS)
_OWN_NAMES = ("identifier", "version", "fingerprint", "completion", *_COUNTER_NAMES)
"""Read-only registers that are no inputs."""


class RegisterFile(wiring.Component):
    """Serves the register map of :data:`pliant.spec.registers.REGISTERS` over AXI4-Lite.

    A read takes three cycles, a write two; AW and W may come in either order. Addresses without a
    register read 0 and ignore writes, with response OKAY. Reading the low half of a 64-bit register
    keeps the high half of that moment for the next read of it. Not to be reset by a soft reset.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    axi : In(AxiLiteSignature)
    <name> : Out(32 * words)   each configuration register (`interrupt_enable` too)
    <name> : In(32 * words)   each read-only register but constants, counters and `completion`
    counters : In(array of 48-bit values)   in the order of COUNTERS
    start, reset : Out(1)   pulses: 1 was written to the bit of `control`
    done_event, fault_event : In(1)   pulses: set the bits of `interrupt_status`
    interrupt_clear : In(1)   zeroes `interrupt_status`; wins over the events
    irq : Out(1)   a bit of `interrupt_status` is set and enabled
    """

    axi: Any
    counters: Any
    start: Signal
    reset: Signal
    done_event: Signal
    fault_event: Signal
    interrupt_clear: Signal
    irq: Signal

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        members: dict[str, Any] = {}
        for register in REGISTERS.values():
            if register.access is Access.READ_WRITE:
                members[register.name] = Out(32 * register.words)
            elif register.access is Access.READ_ONLY and register.name not in _OWN_NAMES:
                members[register.name] = In(32 * register.words)
        super().__init__({
            **members,
            "axi": In(AxiLiteSignature()),
            "counters": In(data.ArrayLayout(COUNTER_BITS, len(COUNTERS))),
            "start": Out(1),
            "reset": Out(1),
            "done_event": In(1),
            "fault_event": In(1),
            "interrupt_clear": In(1),
            "irq": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        interrupts = Signal(len(Interrupt))
        sources: dict[str, Value] = {
            "identifier": Value.cast(IDENTIFIER),
            "version": Value.cast(ISA_VERSION),
            "fingerprint": Value.cast(self._config.fingerprint),
            "control": Value.cast(0),
            "interrupt_status": interrupts,
            "completion": Cat(interrupts, self._saturated_cycles()),
            **{name: self.counters[index] for index, name in enumerate(_COUNTER_NAMES)},
        }
        for name in REGISTERS.keys() - sources.keys():
            sources[name] = getattr(self, name)
        self._read(m, sources)
        self._write(m, interrupts)
        enabled: Signal = getattr(self, "interrupt_enable")  # noqa: B009  # a generated member
        m.d.sync += self.irq.eq((interrupts & enabled).any())
        return m

    def _saturated_cycles(self) -> Value:
        cycles: Value = self.counters[_COUNTER_NAMES.index("cycles")]
        low, high = cycles[:COMPLETION_CYCLES_BITS], cycles[COMPLETION_CYCLES_BITS:]
        return low | high.any().replicate(COMPLETION_CYCLES_BITS)

    def _read(self, m: Module, sources: dict[str, Value]) -> None:
        ar, r = self.axi.ar, self.axi.r
        address = Signal(LITE_ADDRESS_BITS)
        high, high_address = Signal(32), Signal(LITE_ADDRESS_BITS)
        m.d.comb += r.payload.resp.eq(Response.OKAY)
        with m.FSM():
            with m.State("address"):
                m.d.comb += ar.ready.eq(1)
                m.d.sync += address.eq(Cat(0, 0, ar.payload.addr[2:]))
                with m.If(ar.valid):
                    m.next = "select"
            with m.State("select"):
                m.d.sync += [r.payload.data.eq(0), r.valid.eq(1)]
                with m.Switch(address):
                    for register in REGISTERS.values():
                        source = sources[register.name]
                        with m.Case(register.address):
                            m.d.sync += r.payload.data.eq(source[:32])
                            if register.words == 2:
                                m.d.sync += [
                                    high.eq(source[32:]),
                                    high_address.eq(register.address + WORD_BYTES),
                                ]
                        if register.words == 2:
                            with m.Case(register.address + WORD_BYTES):
                                m.d.sync += r.payload.data.eq(source[32:])
                # 0 is the address of no high half.
                with m.If((address == high_address) & (high_address != 0)):
                    m.d.sync += [r.payload.data.eq(high), high_address.eq(0)]
                m.next = "data"
            with m.State("data"), m.If(r.ready):
                m.d.sync += r.valid.eq(0)
                m.next = "address"

    def _write(self, m: Module, interrupts: Signal) -> None:
        aw, w, b = self.axi.aw, self.axi.w, self.axi.b
        address_valid, data_valid = Signal(), Signal()
        address = Signal(LITE_ADDRESS_BITS)
        word, strobe = Signal(32), Signal(WORD_BYTES)
        act = Signal()
        m.d.comb += [
            aw.ready.eq(~address_valid),
            w.ready.eq(~data_valid),
            act.eq(address_valid & data_valid & (~b.valid | b.ready)),
            b.payload.resp.eq(Response.OKAY),
        ]
        with m.If(aw.ready & aw.valid):
            m.d.sync += [address_valid.eq(1), address.eq(Cat(0, 0, aw.payload.addr[2:]))]
        with m.If(w.ready & w.valid):
            m.d.sync += [data_valid.eq(1), word.eq(w.payload.data), strobe.eq(w.payload.strb)]
        with m.If(b.ready):
            m.d.sync += b.valid.eq(0)
        with m.If(act):
            m.d.sync += [address_valid.eq(0), data_valid.eq(0), b.valid.eq(1)]

        mask = Cat(bit.replicate(8) for bit in strobe)
        ones = word & mask

        def written(register: Register, part: int = 0) -> Value:
            return act & (address == register.address + WORD_BYTES * part)

        for register in REGISTERS.values():
            if register.access is not Access.READ_WRITE:
                continue
            value: Signal = getattr(self, register.name)
            for part in range(register.words):
                half = value[32 * part:32 * (part + 1)]
                with m.If(written(register, part)):
                    m.d.sync += half.eq((half & ~mask) | ones)

        control = written(REGISTERS["control"]).replicate(32) & ones
        m.d.comb += [
            self.start.eq((control & Control.START).any()),
            self.reset.eq((control & Control.RESET).any()),
        ]

        cleared = written(REGISTERS["interrupt_status"]).replicate(32) & ones
        events = (self.done_event.replicate(len(interrupts)) & Interrupt.DONE) | (
            self.fault_event.replicate(len(interrupts)) & Interrupt.FAULT
        )
        m.d.sync += interrupts.eq((interrupts & ~cleared) | events)
        with m.If(self.interrupt_clear):
            m.d.sync += interrupts.eq(0)
