"""The post-processor: 32-bit values in, finished int8 features out."""

from __future__ import annotations

from typing import Any

from amaranth import Module, Signal, signed
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
from pliant_hw.requantizer import Requantizer
from pliant_hw.residual import ResidualAdder, ResidualReader
from pliant_hw.value_source import ValueSource
from pliant_hw.walker import Walker, connect_rectangle

OUTPUT_WORDS = 32
"""Finished words that may wait for the feature buffer; more than the pipeline holds (20)."""


class PostProcessor(wiring.Component):
    """Executes Post instructions, one after the other, one word a cycle.

    An instruction takes about ``words + cols*parameter_bytes/word + 30`` cycles, where words is
    groups*out_height*out_width (times the patches of a window), plus bank conflicts, plus 256 when
    the table has changed.

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
        m.submodules.walker = walker = Walker(config=config)
        wiring.connect(m, wiring.flipped(self.parameters), parameters.write)
        wiring.connect(m, wiring.flipped(self.table), table.write)
        wiring.connect(m, wiring.flipped(self.taps), source.taps)
        for bank in range(FEATURE_BANKS):
            wiring.connect(m, getattr(source, f"feature_{bank}"),
                           wiring.flipped(getattr(self, f"window_{bank}")))
        wiring.connect(m, residuals.feature, wiring.flipped(self.residual))

        # One instruction at a time: fetch what it needs, then run.
        current: Any = Signal(instruction_layout(Post))
        start = Signal()
        accept = Signal()
        m.d.comb += accept.eq(self.instruction.valid & self.instruction.ready)
        fetched = Signal()
        m.d.sync += [parameters.fetch.eq(accept), table.update.eq(
            accept & self.instruction.payload.table_enable)]
        m.d.comb += parameters.first.eq(current.parameters)
        with m.FSM():
            with m.State("idle"):
                m.d.comb += self.instruction.ready.eq(1)
                with m.If(self.instruction.valid):
                    m.d.sync += [current.eq(self.instruction.payload), fetched.eq(0)]
                    m.next = "fetch"
            with m.State("fetch"):
                m.d.comb += self.busy.eq(1)
                m.d.sync += fetched.eq(1)
                with m.If(fetched & parameters.ready & table.ready):
                    m.d.comb += start.eq(1)
                    m.next = "run"
            with m.State("run"):
                m.d.comb += self.busy.eq(1)
                with m.If(self.done):
                    m.next = "idle"

        # Values in: a value needs room behind the pipeline, and its residual.
        room = Signal(range(OUTPUT_WORDS + 1), init=OUTPUT_WORDS)
        written = Signal()
        m.d.sync += room.eq(room - source.issue + written)
        m.d.comb += [
            source.start.eq(start),
            source.instruction.eq(current),
            source.permit.eq((room != 0) & (residuals.available | ~current.add_enable)),
            source.permit_pair.eq((room > 1) & (residuals.available_pair | ~current.add_enable)),
            self.read_valid.eq(source.read_valid),
            self.read_bank.eq(source.read_bank),
            self.read_entry.eq(source.read_entry),
            self.read_group.eq(source.read_group),
            source.read_values.eq(self.read_values),
            residuals.start.eq(start),
            residuals.instruction.eq(current),
            residuals.claim.eq(source.issue & current.add_enable),
            self.active.eq(source.issue),
        ]

        # The pipeline.
        m.d.comb += [
            parameters.group.eq(source.group),
            requantizer.valid.eq(source.valid),
            requantizer.values.eq(source.values),
            requantizer.parameters.eq(parameters.parameters),
            requantizer.rounding.eq(current.rounding),
            requantizer.zero_point.eq(current.zero_point),
            requantizer.clip_min.eq(current.clip_min),
            requantizer.clip_max.eq(current.clip_max),
            adder.valid.eq(requantizer.out_valid),
            adder.words.eq(requantizer.results),
            adder.residuals.eq(residuals.word),
            residuals.take.eq(requantizer.out_valid & current.add_enable),
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
            table.enable.eq(current.table_enable),
            table.words.eq(adder.results),
            finished.w_en.eq(table.out_valid),
            finished.w_data.eq(table.results),
        ]

        # Words out.
        connect_rectangle(
            m, walker, valid=start, base=current.destination,
            group_stride=current.destination_group_stride,
            row_stride=current.destination_row_stride,
            y=current.destination_y, x=current.destination_x, groups=current.groups,
            height=current.out_height, width=current.out_width,
        )
        position = walker.position.payload
        m.d.comb += [
            self.output.valid.eq(walker.position.valid & finished.r_rdy),
            self.output.mask.eq(1 << position.bank),
            written.eq(self.output.valid & self.output.ready),
            walker.position.ready.eq(written),
            finished.r_en.eq(written),
            self.done.eq(written & position.last),
            self.wait_bank.eq(source.wait_bank | (self.output.valid & ~self.output.ready)
                              | (residuals.feature.valid & ~residuals.feature.ready)),
        ]
        for bank in range(FEATURE_BANKS):
            m.d.comb += [self.output.address[bank].eq(position.address),
                         self.output.data[bank].eq(finished.r_data)]
        return m
