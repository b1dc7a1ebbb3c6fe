"""The fetch unit: reads the program ahead of the dispatcher."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import AcceleratorConfig
from pliant.spec.isa import INSTRUCTION_BYTES
from pliant.spec.registers import FaultUnit
from pliant_hw.axi import FETCH_ID, AxiReadSignature
from pliant_hw.dispatch import WORD
from pliant_hw.dma import WINDOW_BITS, DmaReader
from pliant_hw.layouts import INDEX_BITS, FaultReport
from pliant_hw.streams import StreamQueue

QUEUED_BYTES = 8 * INSTRUCTION_BYTES
"""Program read ahead; enough for an instruction every ten cycles or so at 80 cycles latency."""

LENGTH_BITS = 32


class FetchUnit(wiring.Component):
    """Reads instructions in order, only as many as it has room for.

    So its answers never block the read channel. One instruction every ``64 / axi_data_bytes``
    cycles, at least one cycle. Instructions past 2**INDEX_BITS wrap in `index`.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    start : In(1)   pulse after reset: begin at `program_base`
    stop : In(1)   read nothing more and drop what has been read, until reset
    program_base : In(axi_address_bits)   a multiple of axi_data_bytes, else an ADDRESS fault
    program_length : In(32)   instructions
    program : Out(stream)   WORD
    exhausted : Out(1)   all of the program's words have been taken
    window_base, window_limit : In(64)   bytes
    axi : Out(AxiReadSignature)   with id FETCH_ID
    halt : In(1)   issue nothing, discard what arrives
    idle : Out(1)   nothing outstanding on the bus
    fault : Out(FaultReport)   stays until reset
    """

    start: Signal
    stop: Signal
    program_base: Signal
    program_length: Signal
    program: Any
    exhausted: Signal
    window_base: Signal
    window_limit: Signal
    axi: Any
    halt: Signal
    idle: Signal
    fault: Any

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__({
            "start": In(1),
            "stop": In(1),
            "program_base": In(config.axi_address_bits),
            "program_length": In(LENGTH_BITS),
            "program": Out(stream.Signature(WORD)),
            "exhausted": Out(1),
            "window_base": In(WINDOW_BITS),
            "window_limit": In(WINDOW_BITS),
            "axi": Out(AxiReadSignature(config)),
            "halt": In(1),
            "idle": Out(1),
            "fault": Out(FaultReport(config)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        beat_bytes = config.axi_data_bytes
        # A block is what is requested at once: an instruction, or the two of a wide beat.
        block_bytes = max(INSTRUCTION_BYTES, beat_bytes)
        block_words = block_bytes // INSTRUCTION_BYTES
        block_beats = block_bytes // beat_bytes
        queued_blocks = QUEUED_BYTES // block_bytes

        m.submodules.reader = reader = DmaReader(
            config=config, unit=FaultUnit.FETCH, axi_id=FETCH_ID
        )
        m.submodules.beats = beats = StreamQueue(
            8 * beat_bytes, depth=queued_blocks * block_beats
        )
        wiring.connect(m, reader.axi, wiring.flipped(self.axi))
        m.d.comb += [
            reader.window_base.eq(self.window_base),
            reader.window_limit.eq(self.window_limit),
            self.idle.eq(reader.idle),
            beats.input.valid.eq(reader.beats.valid),
            beats.input.payload.eq(reader.beats.payload.data),
            reader.beats.ready.eq(beats.input.ready),
        ]
        for name in ("valid", "code", "unit", "index", "address"):
            m.d.comb += getattr(self.fault, name).eq(getattr(reader.fault, name))

        running, stopped = Signal(), Signal()
        m.d.comb += reader.halt.eq(self.halt | self.stop | stopped)
        with m.If(self.stop):
            m.d.sync += stopped.eq(1)
        with m.If(self.start):
            m.d.sync += running.eq(1)

        # Requests, limited by the blocks that are requested and not yet taken.
        block_bits = (block_words - 1).bit_length()
        address = Signal(config.axi_address_bits)
        index = Signal(LENGTH_BITS)
        reserved = Signal(range(queued_blocks + 1))
        requested, released = Signal(), Signal()
        run = reader.runs.payload
        m.d.comb += [
            reader.runs.valid.eq(
                running & (index < self.program_length) & (reserved != queued_blocks)
            ),
            run.address.eq(address),
            run.beats.eq(block_beats),
            run.index.eq(index),
            requested.eq(reader.runs.valid & reader.runs.ready),
        ]
        m.d.sync += reserved.eq(reserved + requested - released)
        with m.If(requested):
            m.d.sync += [index.eq(index + block_words), address.eq(address + block_bytes)]
        with m.If(self.start):
            m.d.sync += address.eq(self.program_base)

        # Words: gather the beats of an instruction, or cut a beat in two.
        taken = Signal(LENGTH_BITS)
        program = self.program.payload
        final = Signal()
        m.d.comb += [
            program.index.eq(taken[:INDEX_BITS]),
            self.exhausted.eq(running & (taken == self.program_length)),
        ]
        accepted = self.program.valid & self.program.ready
        with m.If(accepted):
            m.d.sync += taken.eq(taken + 1)
        if block_beats == 1:
            m.d.comb += [
                self.program.valid.eq(beats.output.valid & ~self.exhausted & ~stopped),
                program.word.eq(
                    beats.output.payload.word_select(
                        taken[:block_bits], 8 * INSTRUCTION_BYTES
                    )
                ),
                final.eq(taken[:block_bits].all() if block_bits else 1),
                beats.output.ready.eq(accepted & final),
                released.eq(accepted & final),
            ]
        else:
            word = Signal(8 * (block_bytes - beat_bytes))
            count = Signal(range(block_beats))
            m.d.comb += [
                final.eq(count == block_beats - 1),
                self.program.valid.eq(beats.output.valid & final & ~stopped),
                program.word.eq(Cat(word, beats.output.payload)),
                beats.output.ready.eq(~final | self.program.ready),
                released.eq(accepted),
            ]
            with m.If(beats.output.valid & beats.output.ready):
                m.d.sync += [
                    word.eq(Cat(word, beats.output.payload)[8 * beat_bytes:]),
                    count.eq(count + 1),
                ]
        return m
