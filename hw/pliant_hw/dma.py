"""DMA engines: contiguous runs of beats become AXI4 bursts inside the driver's window."""

from __future__ import annotations

from typing import Any

from amaranth import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import AcceleratorConfig
from pliant.spec.registers import Fault, FaultUnit
from pliant_hw.axi import (
    ID_BITS,
    WRITE_ID,
    AxiReadSignature,
    AxiWriteSignature,
    read_data_layout,
)
from pliant_hw.bursts import WINDOW_BITS, BurstSplitter, burst_layout, run_layout
from pliant_hw.layouts import FaultReport
from pliant_hw.streams import StreamBuffer, StreamQueue

__all__ = ["WINDOW_BITS", "DmaReader", "DmaWriter", "beat_layout"]


def beat_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return a data beat; `last` marks the last beat of an instruction."""
    return data.StructLayout({"data": unsigned(8 * config.axi_data_bytes), "last": unsigned(1)})


class DmaReader(wiring.Component):
    """Reads runs from memory, in order, with up to axi_outstanding bursts in flight.

    One burst and one beat a cycle; 5 cycles from a run to its ARVALID, 1 from R to `beats`. The
    first fault is kept until reset; nothing is issued or delivered after it, and what is in flight
    is taken and dropped.

    Parameters
    ----------
    config : AcceleratorConfig
    unit : FaultUnit
        Named in faults.
    axi_id : int
        ARID of every burst; answers must carry it.

    Members
    -------
    runs : In(stream(run_layout))
    beats : Out(stream(beat_layout))
    axi : Out(AxiReadSignature)
    window_base, window_limit : In(64)   bytes; runs must lie in [base, limit)
    halt : In(1)   drops all runs, issues nothing new (an offered ARVALID stays), discards answers
        from the next cycle on
    idle : Out(1)   no burst is offered or in flight
    fault : Out(FaultReport)   ADDRESS or AXI_READ
    """

    runs: Any
    beats: Any
    axi: Any
    window_base: Signal
    window_limit: Signal
    halt: Signal
    idle: Signal
    fault: Any

    def __init__(self, *, config: AcceleratorConfig, unit: FaultUnit, axi_id: int) -> None:
        if not 0 <= axi_id < 1 << ID_BITS:
            raise ValueError(f"axi_id = {axi_id} must fit in {ID_BITS} bit")
        self._config = config
        self._unit = unit
        self._axi_id = axi_id
        super().__init__({
            "runs": In(stream.Signature(run_layout(config))),
            "beats": Out(stream.Signature(beat_layout(config))),
            "axi": Out(AxiReadSignature(config)),
            "window_base": In(WINDOW_BITS),
            "window_limit": In(WINDOW_BITS),
            "halt": In(1),
            "idle": Out(1),
            "fault": Out(FaultReport(config)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        ar, r = self.axi.ar, self.axi.r
        m.submodules.splitter = splitter = BurstSplitter(config=config)
        m.submodules.flying = flying = StreamQueue(
            burst_layout(config), depth=config.axi_outstanding
        )
        m.submodules.received = received = StreamBuffer(
            read_data_layout(config.axi_data_bytes))
        wiring.connect(m, wiring.flipped(self.runs), splitter.runs)
        m.d.comb += [
            splitter.window_base.eq(self.window_base),
            splitter.window_limit.eq(self.window_limit),
            splitter.flush.eq(self.halt),
        ]

        failed = self.fault.valid
        free = (~ar.valid | ar.ready) & ~failed
        m.d.comb += [
            splitter.bursts.ready.eq(free & flying.input.ready),
            flying.input.valid.eq(splitter.bursts.valid & free),
            flying.input.payload.eq(splitter.bursts.payload),
            ar.payload.id.eq(self._axi_id),
            self.idle.eq(flying.level == 0),
        ]
        with m.If(ar.ready):
            m.d.sync += ar.valid.eq(0)
        with m.If(splitter.bursts.valid & splitter.bursts.ready):
            m.d.sync += [
                ar.valid.eq(1),
                ar.payload.addr.eq(splitter.bursts.payload.address),
                ar.payload.len.eq(splitter.bursts.payload.length),
            ]

        burst = flying.output.payload
        refused = Signal()
        wiring.connect(m, wiring.flipped(r), received.input)
        answer = received.output
        halted = Signal()  # a cycle late: nothing depends on the one beat
        m.d.sync += halted.eq(self.halt)
        discard = halted | failed | refused
        m.d.comb += [
            refused.eq(answer.valid & answer.payload.resp[1]),
            self.beats.valid.eq(answer.valid & ~discard),
            self.beats.payload.data.eq(answer.payload.data),
            self.beats.payload.last.eq(answer.payload.last & burst.last),
            answer.ready.eq(self.beats.ready | discard),
            flying.output.ready.eq(answer.valid & answer.ready & answer.payload.last),
        ]

        m.d.comb += self.fault.unit.eq(self._unit)
        with m.If(~failed & ~self.halt):
            with m.If(refused):
                m.d.sync += _report(self.fault, Fault.AXI_READ, burst.index, burst.address)
            with m.Elif(splitter.outside):
                m.d.sync += _report(
                    self.fault, Fault.ADDRESS, splitter.outside_index, splitter.outside_address
                )
        return m


class DmaWriter(wiring.Component):
    """Writes beats to runs in memory, with up to axi_outstanding bursts unacknowledged.

    One burst and one beat a cycle, without bubbles between bursts. W follows its own AW's offer but
    never waits for its acceptance (A3.3.1). The first fault is kept until reset; nothing new is
    issued after it.

    Parameters
    ----------
    config : AcceleratorConfig
    unit : FaultUnit
        Named in faults.

    Members
    -------
    runs : In(stream(run_layout))
    beats : In(stream(beat_layout))
    axi : Out(AxiWriteSignature)
    window_base, window_limit : In(64)   bytes; runs must lie in [base, limit)
    halt : In(1)   drops all runs and issues nothing new (an offered AWVALID or WVALID stays);
        bursts already offered are finished with WSTRB = 0
    completed : Out(1)   the last burst of an instruction has been acknowledged
    idle : Out(1)   no burst is offered or unacknowledged
    fault : Out(FaultReport)   ADDRESS, AXI_WRITE, or ILLEGAL_INSTRUCTION when `last` of the beats
        does not fall on the last beat of the last run
    """

    runs: Any
    beats: Any
    axi: Any
    window_base: Signal
    window_limit: Signal
    halt: Signal
    completed: Signal
    idle: Signal
    fault: Any

    def __init__(self, *, config: AcceleratorConfig, unit: FaultUnit) -> None:
        self._config = config
        self._unit = unit
        super().__init__({
            "runs": In(stream.Signature(run_layout(config))),
            "beats": In(stream.Signature(beat_layout(config))),
            "axi": Out(AxiWriteSignature(config)),
            "window_base": In(WINDOW_BITS),
            "window_limit": In(WINDOW_BITS),
            "halt": In(1),
            "completed": Out(1),
            "idle": Out(1),
            "fault": Out(FaultReport(config)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        aw, w, b = self.axi.aw, self.axi.w, self.axi.b
        m.submodules.splitter = splitter = BurstSplitter(config=config)
        # Every burst waits in two queues: for its data and for its response.
        m.submodules.filling = filling = StreamQueue(
            burst_layout(config), depth=config.axi_outstanding
        )
        m.submodules.flying = flying = StreamQueue(
            burst_layout(config), depth=config.axi_outstanding
        )
        m.submodules.filled = filled = StreamBuffer(burst_layout(config))
        wiring.connect(m, wiring.flipped(self.runs), splitter.runs)
        wiring.connect(m, filling.output, filled.input)
        m.d.comb += [
            splitter.window_base.eq(self.window_base),
            splitter.window_limit.eq(self.window_limit),
            splitter.flush.eq(self.halt),
        ]

        failed = self.fault.valid
        issue = Signal()
        # `filling` holds a subset of `flying`, so room in the latter is room in both.
        m.d.comb += [
            splitter.bursts.ready.eq((~aw.valid | aw.ready) & flying.input.ready & ~failed),
            issue.eq(splitter.bursts.valid & splitter.bursts.ready),
            filling.input.valid.eq(issue),
            filling.input.payload.eq(splitter.bursts.payload),
            flying.input.valid.eq(issue),
            flying.input.payload.eq(splitter.bursts.payload),
            aw.payload.id.eq(WRITE_ID),
            self.idle.eq(flying.level == 0),
        ]
        with m.If(aw.ready):
            m.d.sync += aw.valid.eq(0)
        with m.If(issue):
            m.d.sync += [
                aw.valid.eq(1),
                aw.payload.addr.eq(splitter.bursts.payload.address),
                aw.payload.len.eq(splitter.bursts.payload.length),
            ]

        burst = filled.output.payload
        count = Signal(8)
        ends = count == burst.length
        abort = self.halt | failed
        free = filled.output.valid & (~w.valid | w.ready)
        take = Signal()
        m.d.comb += [
            take.eq(free & (self.beats.valid | abort)),
            self.beats.ready.eq(free & ~abort),
            filled.output.ready.eq(take & ends),
        ]
        with m.If(w.ready):
            m.d.sync += w.valid.eq(0)
        with m.If(take):
            m.d.sync += [
                w.valid.eq(1),
                w.payload.data.eq(self.beats.payload.data),
                w.payload.strb.eq(Mux(abort, 0, (1 << config.axi_data_bytes) - 1)),
                w.payload.last.eq(ends),
                count.eq(Mux(ends, 0, count + 1)),
            ]

        answered = flying.output.payload
        mismatch = take & (self.beats.payload.last != (ends & burst.last))
        m.d.comb += [
            b.ready.eq(1),
            flying.output.ready.eq(b.valid),
            self.completed.eq(b.valid & answered.last & ~b.payload.resp[1] & ~abort),
            self.fault.unit.eq(self._unit),
        ]
        with m.If(~abort):
            with m.If(b.valid & b.payload.resp[1]):
                m.d.sync += _report(self.fault, Fault.AXI_WRITE, answered.index, answered.address)
            with m.Elif(mismatch):
                m.d.sync += _report(self.fault, Fault.ILLEGAL_INSTRUCTION, burst.index, 0)
            with m.Elif(splitter.outside):
                m.d.sync += _report(
                    self.fault, Fault.ADDRESS, splitter.outside_index, splitter.outside_address
                )
        return m


def _report(fault: Any, code: Fault, index: Any, address: Any) -> list[Any]:
    return [
        fault.valid.eq(1), fault.code.eq(code), fault.index.eq(index), fault.address.eq(address),
    ]
