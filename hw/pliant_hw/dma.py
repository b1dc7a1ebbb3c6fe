"""DMA engines: contiguous runs of beats become AXI4 bursts inside the driver's window."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal, unsigned
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
from pliant_hw.layouts import INDEX_BITS, FaultReport
from pliant_hw.streams import StreamBuffer, StreamQueue

RUN_BEATS_BITS = 20
WINDOW_BITS = 64


def run_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return a contiguous run: byte address, beats (at least 1), and whom it belongs to.

    `last` marks the last run of an instruction, `index` is the instruction's place in the program.
    """
    return data.StructLayout({
        "address": unsigned(config.axi_address_bits),
        "beats": unsigned(RUN_BEATS_BITS),
        "last": unsigned(1),
        "index": unsigned(INDEX_BITS),
    })


def burst_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return one AXI burst: byte address, `length` in beats less one; `last` ends the last run."""
    return data.StructLayout({
        "address": unsigned(config.axi_address_bits),
        "length": unsigned(8),
        "last": unsigned(1),
        "index": unsigned(INDEX_BITS),
    })


def beat_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return a data beat; `last` marks the last beat of an instruction."""
    return data.StructLayout({"data": unsigned(8 * config.axi_data_bytes), "last": unsigned(1)})


class BurstSplitter(wiring.Component):
    """Checks runs against the window and splits them at multiples of the longest burst.

    Bursts end at multiples of ``axi_burst_beats * axi_data_bytes`` bytes, a power of two up to
    4 KiB, so none crosses a 4 KiB boundary and every length follows from bits of the address.
    Latency 3, one burst a cycle, no bubble between runs. A run that is misaligned or not wholly
    inside [window_base, window_limit) is reported and stops the splitter until reset or `flush`.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    runs : In(stream(run_layout))
    bursts : Out(stream(burst_layout))
    window_base, window_limit : In(64)   bytes
    flush : In(1)   drops every run and burst that has not been taken
    outside : Out(1)   a run was refused: `outside_address`, `outside_index`
    """

    runs: Any
    bursts: Any
    window_base: Signal
    window_limit: Signal
    flush: Signal
    outside: Signal
    outside_address: Signal
    outside_index: Signal

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__({
            "runs": In(stream.Signature(run_layout(config))),
            "bursts": Out(stream.Signature(burst_layout(config))),
            "window_base": In(WINDOW_BITS),
            "window_limit": In(WINDOW_BITS),
            "flush": In(1),
            "outside": Out(1),
            "outside_address": Out(config.axi_address_bits),
            "outside_index": Out(INDEX_BITS),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        byte_bits = config.axi_data_bytes.bit_length() - 1
        low_bits = config.axi_burst_beats.bit_length() - 1
        longest = config.axi_burst_beats - 1

        # Stage 1: sums and the lower bound.
        run = self.runs.payload
        beat_address = run.address[byte_bits:]
        first: Any = Signal(run_layout(config))
        first_valid, first_ready = Signal(), Signal()
        below = Signal()
        end = Signal(config.axi_address_bits - byte_bits + 1)
        extent = Signal(range((1 << low_bits) + (1 << RUN_BEATS_BITS)))
        m.d.comb += self.runs.ready.eq((first_ready | ~first_valid) & ~self.flush)
        with m.If(self.runs.ready):
            m.d.sync += [
                first_valid.eq(self.runs.valid),
                first.eq(run),
                below.eq((run.address < self.window_base) | run.address[:byte_bits].any()),
                end.eq(beat_address + run.beats),
                extent.eq(beat_address[:low_bits] + run.beats - 1),
            ]

        # Stage 2: the upper bound.
        second: Any = Signal(run_layout(config))
        second_valid, second_ready = Signal(), Signal()
        refused = Signal()
        second_extent = Signal.like(extent)
        m.d.comb += first_ready.eq(second_ready | ~second_valid)
        with m.If(first_ready):
            m.d.sync += [
                second_valid.eq(first_valid),
                second.eq(first),
                second_extent.eq(extent),
                refused.eq(below | (Cat(Const(0, byte_bits), end) > self.window_limit)),
            ]

        # Stage 3: one burst a cycle. `blocks` counts the boundaries that the rest still crosses.
        block = Signal(config.axi_address_bits - byte_bits - low_bits)
        low = Signal(low_bits)
        blocks = Signal(len(extent) - low_bits)
        final = Signal(low_bits)
        valid, last = Signal(), Signal()
        index = Signal(INDEX_BITS)
        ends = blocks == 0
        m.d.comb += [
            second_ready.eq((~valid | (self.bursts.ready & ends)) & ~refused),
            self.outside.eq(second_valid & refused),
            self.outside_address.eq(second.address),
            self.outside_index.eq(second.index),
            self.bursts.valid.eq(valid & ~self.flush),
            self.bursts.payload.address.eq(Cat(Const(0, byte_bits), low, block)),
            self.bursts.payload.length.eq(Mux(ends, final, longest) - low),
            self.bursts.payload.last.eq(last & ends),
            self.bursts.payload.index.eq(index),
        ]
        with m.If(self.bursts.ready & valid):
            m.d.sync += [
                valid.eq(~ends), block.eq(block + 1), low.eq(0), blocks.eq(blocks - 1),
            ]
        with m.If(second_ready & second_valid):
            m.d.sync += [
                valid.eq(1),
                Cat(low, block).eq(second.address[byte_bits:]),
                Cat(final, blocks).eq(second_extent),
                last.eq(second.last),
                index.eq(second.index),
            ]

        with m.If(self.flush):
            m.d.sync += [first_valid.eq(0), second_valid.eq(0), valid.eq(0)]
        return m


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
        m.submodules.received = received = StreamBuffer(read_data_layout(config))
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
        discard = self.halt | failed | refused
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
        wiring.connect(m, wiring.flipped(self.runs), splitter.runs)
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

        burst = filling.output.payload
        count = Signal(8)
        ends = count == burst.length
        abort = self.halt | failed
        free = filling.output.valid & (~w.valid | w.ready)
        take = Signal()
        m.d.comb += [
            take.eq(free & (self.beats.valid | abort)),
            self.beats.ready.eq(free & ~abort),
            filling.output.ready.eq(take & ends),
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
