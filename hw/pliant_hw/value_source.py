"""Where a Post instruction takes its 32-bit values from."""

from __future__ import annotations

from typing import Any

from amaranth import Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import FEATURE_BANKS, AcceleratorConfig
from pliant.spec.isa import Post, Source
from pliant_hw.accumulators import ACCUMULATOR_READ_LATENCY
from pliant_hw.layouts import FEATURE_READ_LATENCY, FeatureReadPort, instruction_layout
from pliant_hw.pipeline import delayed
from pliant_hw.walker import Walker


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
