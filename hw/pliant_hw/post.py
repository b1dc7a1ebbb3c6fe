"""The post-processor: 32-bit values in, finished int8 features out."""

from __future__ import annotations

from typing import Any

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from pliant.spec.config import FEATURE_BANKS, AcceleratorConfig
from pliant.spec.isa import Post
from pliant_hw.layouts import (
    BeatWritePort,
    FeatureReadPort,
    FeatureWritePort,
    instruction_layout,
)
from pliant_hw.lookup import LookupTable
from pliant_hw.parameters import ParameterUnit
from pliant_hw.pipeline import loaded, remaining
from pliant_hw.rectangle import RectangleWalker, connect_rectangle
from pliant_hw.requantizer import Requantizer
from pliant_hw.residual import ResidualAdder, ResidualReader
from pliant_hw.value_source import ValueSource

OUTPUT_WORDS = 32
"""Finished words that may wait for the feature buffer; more than the pipeline holds (24)."""

MAX_IN_FLIGHT = 4
"""Instructions accepted and not completed: one enters the pipeline, others leave it."""


class PostProcessor(wiring.Component):
    """Executes Post instructions in order, one word a cycle, without a drain between them.

    An instruction takes about as many cycles as it has words (of windows, patches), plus bank
    conflicts, plus 3 between two instructions of more words than the pipeline is long; a lane
    group of few words waits for its parameters; a table that has changed is copied in 256 cycles
    when the pipeline is empty. What an instruction reads may be read before the one before is
    done.

    Members
    -------
    instruction : In(stream)   decoded Post; its tokens have been consumed
    done : Out   pulse: all words of the instruction are in the feature buffer
    window_<bank>, residual : Out(FeatureReadPort)
    output : Out(FeatureWritePort)
    parameters, table, taps : In(BeatWritePort)   from the load unit
    read_valid, read_bank, read_entry, read_group : Out, read_values : In   see Accumulators
    busy, active, wait_bank : Out   for the counters
    """

    instruction: Any
    residual: Any
    output: Any
    parameters: Any
    table: Any
    taps: Any
    read_values: Any
    done: Signal
    read_valid: Signal
    read_bank: Signal
    read_entry: Signal
    read_group: Signal
    busy: Signal
    active: Signal
    wait_bank: Signal

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        self._parameters = ParameterUnit(config=config)
        self._table = LookupTable(config=config)
        self._source = ValueSource(config=config)
        super().__init__({
            "instruction": In(stream.Signature(instruction_layout(Post))),
            "done": Out(1),
            **{f"window_{bank}": Out(FeatureReadPort(config)) for bank in range(FEATURE_BANKS)},
            "residual": Out(FeatureReadPort(config)),
            "output": Out(FeatureWritePort(config)),
            "parameters": In(BeatWritePort(config, self._parameters.beat_address_bits)),
            "table": In(BeatWritePort(config, self._table.beat_address_bits)),
            "taps": In(BeatWritePort(config, self._source.tap_beat_bits)),
            "read_valid": Out(1),
            "read_bank": Out(1),
            "read_entry": Out(range(config.accumulator_depth)),
            "read_group": Out(range(max(2, config.groups_per_tile))),
            "read_values": In(data.ArrayLayout(signed(32), config.lanes)),
            "busy": Out(1),
            "active": Out(1),
            "wait_bank": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.parameters = parameters = self._parameters
        m.submodules.table = table = self._table
        m.submodules.source = source = self._source
        m.submodules.residuals = residuals = ResidualReader(config=config)
        m.submodules.requantizer = requantizer = Requantizer(config=config)
        m.submodules.adder = adder = ResidualAdder(config=config)
        m.submodules.finished = finished = SyncFIFOBuffered(
            width=8 * config.lanes, depth=OUTPUT_WORDS)
        m.submodules.walker = walker = RectangleWalker(config=config)
        wiring.connect(m, wiring.flipped(self.parameters), parameters.write)
        wiring.connect(m, wiring.flipped(self.table), table.write)
        wiring.connect(m, wiring.flipped(self.taps), source.taps)
        for bank in range(FEATURE_BANKS):
            wiring.connect(m, getattr(source, f"feature_{bank}"),
                           wiring.flipped(getattr(self, f"window_{bank}")))
        wiring.connect(m, residuals.feature, wiring.flipped(self.residual))

        # An instruction is accepted when all that still reads the one before has what it needs
        # of it, long before that one is completed. What takes time to fetch is asked for before.
        offered = self.instruction.payload
        current: Any = Signal(instruction_layout(Post))
        accept, start = Signal(), Signal()
        requested = Signal()  # the parameters of the instruction offered
        reads, read = Signal(), Signal()  # its residual words or offsets
        prepared = Signal()  # it has all that it needs, as of a cycle ago
        unfinished, unloaded, unwritten = Signal(), Signal(), Signal()
        in_flight = Signal(range(MAX_IN_FLIGHT + 1))
        copying = Signal()
        displaced = Signal()  # the instruction offered is one with offsets
        if source.displaces:
            m.d.comb += [displaced.eq(offered.offsets.any()),
                         parameters.request.payload.together.eq(displaced)]
            wiring.connect(m, residuals.offsets, source.offsets)
        m.d.comb += [
            parameters.request.valid.eq(self.instruction.valid & ~requested),
            parameters.request.payload.first.eq(offered.parameters),
            parameters.request.payload.groups.eq(offered.groups),
            reads.eq(offered.add_enable | displaced),
            residuals.instruction.valid.eq(self.instruction.valid & reads & ~read),
            residuals.instruction.payload.eq(offered),
            copying.eq(self.instruction.valid & offered.table_enable & table.stale),
            table.update.eq(copying & (in_flight == 0) & ~table.updating),
            self.instruction.ready.eq(prepared & ~unfinished & ~unloaded & ~unwritten),
            accept.eq(self.instruction.valid & self.instruction.ready),
            self.busy.eq((in_flight != 0) | copying),
        ]
        m.d.sync += [start.eq(accept), in_flight.eq(in_flight + accept - self.done),
                     prepared.eq(self.instruction.valid & requested & (read | ~reads) & ~copying)]
        with m.If(parameters.request.valid & parameters.request.ready):
            m.d.sync += requested.eq(1)
        with m.If(residuals.instruction.valid & residuals.instruction.ready):
            m.d.sync += read.eq(1)
        for waiting, over in (
                (unfinished, source.finished), (unloaded, adder.loaded),
                (unwritten, walker.rectangle.ready)):
            with m.If(over):
                m.d.sync += waiting.eq(0)
        with m.If(accept):
            m.d.sync += [current.eq(offered), prepared.eq(0), requested.eq(0), read.eq(0),
                         unfinished.eq(1), unloaded.eq(1), unwritten.eq(1)]

        # Values in: a value needs room behind the pipeline, its residual and its parameters.
        room = Signal(range(OUTPUT_WORDS + 1), init=OUTPUT_WORDS)  # less one if `issued`
        issued, written = Signal(), Signal()
        m.d.sync += [issued.eq(source.issue), room.eq(room - issued + written)]
        m.d.comb += [
            source.start.eq(start),
            source.instruction.eq(current),
            source.room.eq(remaining(room, issued, source.words_at_once)),
            source.residuals.eq(residuals.available),
            source.parameters.eq(parameters.available),
            self.read_valid.eq(source.read_valid),
            self.read_bank.eq(source.read_bank),
            self.read_entry.eq(source.read_entry),
            self.read_group.eq(source.read_group),
            source.read_values.eq(self.read_values),
            residuals.claim.eq(source.claim_residual),
            parameters.claim.eq(source.claim_parameters),
            self.active.eq(source.issue),
        ]

        # The pipeline. Its controls change as the first word of an instruction comes by.
        m.d.comb += [
            parameters.advance.eq(source.load_parameters),
            parameters.release.eq(source.release_parameters),
            requantizer.valid.eq(source.valid),
            requantizer.values.eq(source.values),
            requantizer.parameters.eq(parameters.parameters),
            requantizer.load.eq(source.load),
            requantizer.rounding.eq(current.rounding),
            requantizer.zero_point.eq(current.zero_point),
            requantizer.clip_min.eq(current.clip_min),
            requantizer.clip_max.eq(current.clip_max),
            adder.valid.eq(requantizer.out_valid),
            adder.words.eq(requantizer.results),
            adder.residuals.eq(residuals.word),
            residuals.take.eq(adder.take),
            adder.load.eq(requantizer.loaded),
            adder.enable.eq(current.add_enable),
            adder.multiplier.eq(current.add_multiplier),
            adder.residual_multiplier.eq(current.add_residual_multiplier),
            adder.offset.eq(current.add_offset),
            adder.shift.eq(current.add_shift),
            adder.rounding.eq(current.rounding),
            adder.zero_point.eq(current.add_zero_point),
            adder.clip_min.eq(current.add_clip_min),
            adder.clip_max.eq(current.add_clip_max),
            table.valid.eq(adder.out_valid),
            table.enable.eq(loaded(m, adder.loaded, current.table_enable, "table_enable")),
            table.words.eq(adder.results),
            finished.w_en.eq(table.out_valid),
            finished.w_data.eq(table.results),
        ]

        # Words out.
        by_pixel = current.offsets.any() if source.displaces else 0
        connect_rectangle(m, walker, current, "destination", pixels=current.upsample,
                          by_pixel=by_pixel)
        position = walker.place.payload
        residual_waited = Signal()  # a cycle ago: whether it must is known late
        m.d.comb += [
            walker.rectangle.valid.eq(unwritten),
            self.output.valid.eq(walker.place.valid & finished.r_rdy),
            self.output.mask.eq(Mux(position.pixels.any(), position.pixels, 1 << position.bank)),
            written.eq(self.output.valid & self.output.ready),
            walker.place.ready.eq(written),
            finished.r_en.eq(written),
            self.done.eq(written & position.last),
            self.wait_bank.eq(source.wait_bank | (self.output.valid & ~self.output.ready)
                              | residual_waited),
        ]
        m.d.sync += residual_waited.eq(residuals.feature.valid & ~residuals.feature.ready)
        for bank in range(FEATURE_BANKS):
            m.d.comb += [self.output.address[bank].eq(position.address),
                         self.output.data[bank].eq(finished.r_data)]
        return m
