"""The post-processor: 32-bit values in, finished int8 features out."""

from __future__ import annotations

from typing import Any

from amaranth import Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from pliant.spec.config import FEATURE_BANKS, AcceleratorConfig
from pliant.spec.isa import Post, Source
from pliant_hw.accumulators import ACCUMULATOR_READ_LATENCY
from pliant_hw.layouts import (
    FEATURE_READ_LATENCY,
    BeatWritePort,
    FeatureReadPort,
    FeatureWritePort,
    instruction_layout,
)
from pliant_hw.lookup import LookupTable
from pliant_hw.parameters import ParameterUnit
from pliant_hw.requantizer import Requantizer, ResidualAdder, delayed
from pliant_hw.walker import Walker, connect_rectangle

OUTPUT_WORDS = 32
"""Finished words that may wait for the feature buffer; more than the pipeline holds (19)."""

RESIDUAL_WORDS = 16
"""Residual words fetched ahead."""


class ValueSource(wiring.Component):
    """Produces the 32-bit values of a Post instruction, from accumulators or from windows.

    One word a cycle from the accumulators; one window position a cycle from the feature buffer.

    Members
    -------
    start : In   pulse with a new `instruction`, which then holds still until the last value
    instruction : In   decoded Post
    permit : In   one more value may be issued
    issue : Out   a value is issued; it appears 3 cycles later
    feature : Out(FeatureReadPort)
    read_valid, read_bank, read_entry, read_group : Out, read_values : In   see Accumulators
    valid : Out, values : Out   lanes x int32, group : Out   its lane group
    wait_bank : Out
    """

    instruction: Any
    feature: Any
    read_values: Any
    values: Any
    start: Signal
    permit: Signal
    issue: Signal
    read_valid: Signal
    read_bank: Signal
    read_entry: Signal
    read_group: Signal
    valid: Signal
    group: Signal
    wait_bank: Signal

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        group = range(max(2, config.groups_per_tile))
        values = data.ArrayLayout(signed(32), config.lanes)
        super().__init__({
            "start": In(1),
            "instruction": In(instruction_layout(Post)),
            "permit": In(1),
            "issue": Out(1),
            "feature": Out(FeatureReadPort(config)),
            "read_valid": Out(1),
            "read_bank": Out(1),
            "read_entry": Out(range(config.accumulator_depth)),
            "read_group": Out(group),
            "read_values": In(values),
            "valid": Out(1),
            "values": Out(values),
            "group": Out(group),
            "wait_bank": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        instruction = self.instruction
        assert ACCUMULATOR_READ_LATENCY == FEATURE_READ_LATENCY
        m.submodules.walker = walker = Walker(config=config)
        from_accumulators = Signal()
        m.d.comb += from_accumulators.eq(instruction.source == Source.ACCUMULATOR)

        # Accumulators: entries in order, for one lane group after the other.
        active = Signal()
        group = Signal.like(self.read_group)
        entry = Signal.like(self.read_entry)
        x, y = Signal(11), Signal(11)
        last_x = Signal()
        last_pixel = Signal()
        with m.If(self.start):
            m.d.sync += [active.eq(from_accumulators), group.eq(0), x.eq(0), y.eq(0),
                         entry.eq(instruction.accumulator_base)]
        m.d.comb += [
            last_x.eq(x == instruction.out_width - 1),
            last_pixel.eq(last_x & (y == instruction.out_height - 1)),
            self.read_valid.eq(active & self.permit),
            self.read_bank.eq(instruction.accumulator_bank),
            self.read_entry.eq(entry),
            self.read_group.eq(group),
        ]
        with m.If(self.read_valid):
            m.d.sync += [entry.eq(entry + 1), x.eq(x + 1)]
            with m.If(last_x):
                m.d.sync += [x.eq(0), y.eq(y + 1)]
            with m.If(last_pixel):
                m.d.sync += [y.eq(0), group.eq(group + 1),
                             entry.eq(instruction.accumulator_base)]
                with m.If(group == instruction.groups - 1):
                    m.d.sync += active.eq(0)

        # Windows: output pixels outside, window positions inside.
        nest = walker.nest.payload.nest
        position = walker.position.payload
        allowed = Signal()
        step = Signal()
        m.d.comb += [
            walker.nest.valid.eq(self.start & ~from_accumulators),
            nest.base.eq(instruction.window),
            nest.group_stride.eq(instruction.window_group_stride),
            nest.row_stride.eq(instruction.window_row_stride),
            nest.height.eq(instruction.height), nest.width.eq(instruction.width),
            nest.origin_y.eq(instruction.origin_y), nest.origin_x.eq(instruction.origin_x),
            nest.groups.eq(instruction.groups),
            nest.outer_height.eq(instruction.out_height),
            nest.outer_width.eq(instruction.out_width),
            nest.outer_step_y.eq(instruction.stride_y), nest.outer_step_x.eq(instruction.stride_x),
            nest.inner_height.eq(instruction.kernel_height),
            nest.inner_width.eq(instruction.kernel_width),
            nest.inner_step_y.eq(instruction.dilation_y),
            nest.inner_step_x.eq(instruction.dilation_x),
            allowed.eq(walker.position.valid & (self.permit | ~position.inner_last)),
            self.feature.valid.eq(allowed & position.inside),
            self.feature.mask.eq(1 << position.bank),
            step.eq(allowed & (self.feature.ready | ~position.inside)),
            walker.position.ready.eq(step),
            self.issue.eq(self.read_valid | (step & position.inner_last)),
            self.wait_bank.eq(self.feature.valid & ~self.feature.ready),
        ]
        m.d.comb += [self.feature.address[bank].eq(position.address)
                     for bank in range(FEATURE_BANKS)]

        meta_layout = data.StructLayout({
            "valid": 1, "step": 1, "first": 1, "inside": 1, "bank": 2,
            "group": unsigned(len(self.group)),
        })
        meta: Any = Signal(meta_layout)
        m.d.comb += [
            meta.valid.eq(self.issue), meta.step.eq(step), meta.first.eq(position.inner_first),
            meta.inside.eq(position.inside), meta.bank.eq(position.bank),
            meta.group.eq(Mux(from_accumulators, group, position.group)),
        ]
        arrived = data.View(
            meta_layout, delayed(m, meta.as_value(), FEATURE_READ_LATENCY, "meta"))
        lanes = data.ArrayLayout(signed(8), config.lanes)
        word: Any = Signal(lanes)
        m.d.comb += word.as_value().eq(self.feature.data[arrived.bank])
        m.d.sync += [self.valid.eq(arrived.valid), self.group.eq(arrived.group)]
        for lane in range(config.lanes):
            value = Signal(signed(32), name=f"value_{lane}", reset_less=True)
            m.d.comb += self.values[lane].eq(value)
            feature = Signal(signed(8), name=f"feature_{lane}")
            m.d.comb += feature.eq(Mux(arrived.inside, word[lane], instruction.pad_value))
            with m.If(from_accumulators & arrived.valid):
                m.d.sync += value.eq(self.read_values[lane])
            with m.Elif(arrived.step):
                with m.If(arrived.first):
                    m.d.sync += value.eq(feature)
                with m.Elif(instruction.source == Source.SUM):
                    m.d.sync += value.eq(value + feature)
                with m.Elif(feature > value):
                    m.d.sync += value.eq(feature)
        return m


class ResidualReader(wiring.Component):
    """Fetches residual words ahead of their use.

    Members
    -------
    start : In   pulse with a new `instruction`, which then holds still
    instruction : In   decoded Post
    feature : Out(FeatureReadPort)
    available : Out   a word that nobody has claimed is there
    claim : In   a value that will use one is issued
    take : In   the oldest word is used now, `word` : Out
    """

    instruction: Any
    feature: Any
    start: Signal
    available: Signal
    claim: Signal
    take: Signal
    word: Signal

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__({
            "start": In(1),
            "instruction": In(instruction_layout(Post)),
            "feature": Out(FeatureReadPort(config)),
            "available": Out(1),
            "claim": In(1),
            "take": In(1),
            "word": Out(8 * config.lanes),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        instruction = self.instruction
        m.submodules.walker = walker = Walker(config=self._config)
        m.submodules.words = words = SyncFIFOBuffered(
            width=8 * self._config.lanes, depth=RESIDUAL_WORDS)
        connect_rectangle(
            m, walker, valid=self.start & instruction.add_enable, base=instruction.residual,
            group_stride=instruction.residual_group_stride,
            row_stride=instruction.residual_row_stride,
            y=instruction.residual_y, x=instruction.residual_x, groups=instruction.groups,
            height=instruction.out_height, width=instruction.out_width,
        )
        position = walker.position.payload
        reserved = Signal(range(RESIDUAL_WORDS + 1))
        unclaimed = Signal(range(RESIDUAL_WORDS + 1))
        request = Signal()
        m.d.comb += [
            self.feature.valid.eq(walker.position.valid & (reserved != RESIDUAL_WORDS)),
            self.feature.mask.eq(1 << position.bank),
            request.eq(self.feature.valid & self.feature.ready),
            walker.position.ready.eq(request),
            self.available.eq(unclaimed != 0),
            words.r_en.eq(self.take),
            self.word.eq(words.r_data),
        ]
        m.d.comb += [self.feature.address[bank].eq(position.address)
                     for bank in range(FEATURE_BANKS)]
        arrived = delayed(m, request, FEATURE_READ_LATENCY, "arrived")
        bank = delayed(m, position.bank, FEATURE_READ_LATENCY, "bank")
        m.d.comb += [words.w_en.eq(arrived), words.w_data.eq(self.feature.data[bank])]
        m.d.sync += [
            reserved.eq(reserved + request - self.take),
            unclaimed.eq(unclaimed + arrived - self.claim),
        ]
        return m


class PostProcessor(wiring.Component):
    """Executes Post instructions, one after the other, one word a cycle.

    An instruction takes about ``words + cols*parameter_bytes/word + 30`` cycles, where words is
    groups*out_height*out_width (times the window's size for windows), plus bank conflicts, plus 256
    when the table has changed.

    Members
    -------
    instruction : In(stream)   decoded Post; its tokens have been consumed
    done : Out   pulse: all words of the instruction are in the feature buffer
    window, residual : Out(FeatureReadPort)
    output : Out(FeatureWritePort)
    parameters, table : In(BeatWritePort)   from the load unit
    read_valid, read_bank, read_entry, read_group : Out, read_values : In   see Accumulators
    busy, active, wait_bank : Out   for the counters
    """

    instruction: Any
    window: Any
    residual: Any
    output: Any
    parameters: Any
    table: Any
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
        super().__init__({
            "instruction": In(stream.Signature(instruction_layout(Post))),
            "done": Out(1),
            "window": Out(FeatureReadPort(config)),
            "residual": Out(FeatureReadPort(config)),
            "output": Out(FeatureWritePort(config)),
            "parameters": In(BeatWritePort(config, self._parameters.beat_address_bits)),
            "table": In(BeatWritePort(config, self._table.beat_address_bits)),
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
        m.submodules.source = source = ValueSource(config=config)
        m.submodules.residuals = residuals = ResidualReader(config=config)
        m.submodules.requantizer = requantizer = Requantizer(config=config)
        m.submodules.adder = adder = ResidualAdder(config=config)
        m.submodules.finished = finished = SyncFIFOBuffered(
            width=8 * config.lanes, depth=OUTPUT_WORDS)
        m.submodules.walker = walker = Walker(config=config)
        wiring.connect(m, wiring.flipped(self.parameters), parameters.write)
        wiring.connect(m, wiring.flipped(self.table), table.write)
        wiring.connect(m, source.feature, wiring.flipped(self.window))
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
