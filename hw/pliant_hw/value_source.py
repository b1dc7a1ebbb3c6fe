"""Where a Post instruction takes its 32-bit values from."""

from __future__ import annotations

from typing import Any

from amaranth import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import FEATURE_BANKS, AcceleratorConfig
from pliant.spec.isa import Post, Source
from pliant_hw.accumulators import ACCUMULATOR_READ_LATENCY
from pliant_hw.beat_memory import BeatMemory
from pliant_hw.layouts import BeatWritePort, FeatureReadPort, instruction_layout
from pliant_hw.patches import PatchReader, PatchWalker
from pliant_hw.pipeline import add_with_carry, delayed, stages
from pliant_hw.reduction import PATCH_TAPS, REDUCER_LATENCY, LaneReducer

SOURCE_LATENCY = REDUCER_LATENCY + 2
"""From the issue of a value to the value: the patch's words, its reduction, the window's."""


class ValueSource(wiring.Component):
    """Produces the 32-bit values of a Post instruction, from accumulators or from windows.

    One word a cycle from the accumulators; one patch of up to 2x2 taps a cycle from the feature
    buffer, so a 2x2 window takes one cycle, a 3x3 window four. Depthwise outputs side by side
    share patches, see :func:`pliant.spec.memory.row_patches`.

    Members
    -------
    start : In   pulse with a new `instruction`, which then holds still until the last value
    instruction : In   decoded Post
    permit : In   one more value may be issued, `permit_pair` : In   two more
    issue : Out   a value is issued; it appears SOURCE_LATENCY cycles later
    feature_<bank> : Out(FeatureReadPort)   for each bank
    taps : In(BeatWritePort)   depthwise weights from the load unit
    read_valid, read_bank, read_entry, read_group : Out, read_values : In   see Accumulators
    valid : Out, values : Out   lanes x int32, group : Out   its lane group
    wait_bank : Out
    """

    instruction: Any
    taps: Any
    read_values: Any
    values: Any
    start: Signal
    permit: Signal
    permit_pair: Signal
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
        self._taps = BeatMemory(
            config=config, word_bytes=PATCH_TAPS * config.lanes, depth=config.tap_depth)
        self.tap_beat_bits = self._taps.beat_address_bits
        group = range(max(2, config.groups_per_tile))
        values = data.ArrayLayout(signed(32), config.lanes)
        super().__init__({
            "start": In(1),
            "instruction": In(instruction_layout(Post)),
            "permit": In(1),
            "permit_pair": In(1),
            "issue": Out(1),
            **{f"feature_{bank}": Out(FeatureReadPort(config)) for bank in range(FEATURE_BANKS)},
            "taps": In(BeatWritePort(config, self.tap_beat_bits)),
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
        m.submodules.walker = walker = PatchWalker(config=config)
        m.submodules.reader = reader = PatchReader(config=config)
        m.submodules.taps = taps = self._taps
        wiring.connect(m, walker.request, reader.request)
        wiring.connect(m, wiring.flipped(self.taps), taps.write)
        for bank in range(FEATURE_BANKS):
            wiring.connect(m, getattr(reader, f"feature_{bank}"),
                           wiring.flipped(getattr(self, f"feature_{bank}")))
        from_accumulators = Signal()
        m.d.comb += from_accumulators.eq(instruction.source == Source.ACCUMULATOR)

        # Accumulators: entries in order, for one lane group after the other. They are read late,
        # so that values from either origin take the same time.
        active = Signal()
        group = Signal.like(self.read_group)
        entry = Signal.like(self.read_entry)
        x, y = Signal(11), Signal(11)
        last_x = Signal()
        last_pixel = Signal()
        read = Signal()
        with m.If(self.start):
            m.d.sync += [active.eq(from_accumulators), group.eq(0), x.eq(0), y.eq(0),
                         entry.eq(instruction.accumulator_base)]
        m.d.comb += [
            last_x.eq(x == instruction.out_width - 1),
            last_pixel.eq(last_x & (y == instruction.out_height - 1)),
            read.eq(active & self.permit),
        ]
        with m.If(read):
            m.d.sync += [entry.eq(entry + 1), x.eq(x + 1)]
            with m.If(last_x):
                m.d.sync += [x.eq(0), y.eq(y + 1)]
            with m.If(last_pixel):
                m.d.sync += [y.eq(0), group.eq(group + 1),
                             entry.eq(instruction.accumulator_base)]
                with m.If(group == instruction.groups - 1):
                    m.d.sync += active.eq(0)
        wait = SOURCE_LATENCY - ACCUMULATOR_READ_LATENCY - 1
        accumulator_bank = Signal()
        m.d.comb += [
            accumulator_bank.eq(instruction.accumulator_bank),
            self.read_valid.eq(delayed(m, read, wait, "read")),
            self.read_bank.eq(delayed(m, accumulator_bank, wait, "bank")),
            self.read_entry.eq(delayed(m, entry, wait, "entry")),
            self.read_group.eq(delayed(m, group, wait, "read_group")),
        ]

        # Windows: patches from the feature buffer beside their taps.
        patch = reader.patch.payload.patch
        step, second = Signal(), Signal()
        m.d.comb += [
            walker.start.eq(self.start & ~from_accumulators),
            walker.instruction.eq(instruction),
            reader.patch.ready.eq(
                ~patch.last | (~second & Mux(patch.pair, self.permit_pair, self.permit))),
            step.eq(reader.patch.valid & reader.patch.ready),
            self.issue.eq(read | (step & patch.last) | second),
            self.wait_bank.eq(reader.wait_bank),
            taps.read_enable.eq(step & patch.own),
            taps.address.eq(patch.tap),
        ]
        m.d.sync += second.eq(step & patch.last & patch.pair)
        enable = stages(m, step, SOURCE_LATENCY)
        held: Any = Signal(patch.shape(), reset_less=True)
        words: Any = Signal(data.ArrayLayout(unsigned(8 * config.lanes), PATCH_TAPS),
                            reset_less=True)
        with m.If(step):
            m.d.sync += [held.eq(patch), words.eq(reader.patch.payload.words)]
        marks_layout = data.StructLayout({
            "first": 1, "last": 1, "pair": 1, "group": unsigned(len(self.group))})
        marks: Any = Signal(marks_layout)
        m.d.comb += [marks.first.eq(held.first), marks.last.eq(held.last),
                     marks.pair.eq(held.pair), marks.group.eq(held.group)]
        whole = data.View(marks_layout, delayed(m, marks.as_value(), REDUCER_LATENCY, "marks"))
        whole_second = data.View(marks_layout, delayed(m, whole.as_value(), 1, "marks_second"))
        maximum = Signal()
        m.d.comb += maximum.eq(instruction.source == Source.MAXIMUM)

        # Values. The second of a pair comes one cycle after the first.
        arriving = delayed(m, self.read_valid, ACCUMULATOR_READ_LATENCY, "arriving")
        arriving_group = delayed(m, self.read_group, ACCUMULATOR_READ_LATENCY, "arriving_group")
        finished, finished_second = Signal(), Signal()
        m.d.sync += [
            finished.eq(arriving | (enable[-2] & whole.last)),
            finished_second.eq(enable[-1] & whole_second.last & whole_second.pair),
            self.group.eq(Mux(arriving, arriving_group,
                              Mux(enable[-2] & whole.last, whole.group, whole_second.group))),
        ]
        m.d.comb += self.valid.eq(finished | finished_second)
        for lane in range(config.lanes):
            m.submodules[f"lane_{lane}"] = reducer = LaneReducer()
            value = Signal(signed(32), name=f"value_{lane}", reset_less=True)
            second_value = Signal(signed(32), name=f"second_value_{lane}", reset_less=True)
            m.d.comb += [
                reducer.enable.eq(Cat(enable[1:-1])),
                reducer.present.eq(held.present),
                reducer.inside.eq(held.inside),
                reducer.pad_value.eq(instruction.pad_value),
                reducer.weights.depthwise.eq(instruction.source == Source.DEPTHWISE),
                reducer.weights.own.eq(held.own),
                reducer.weights.previous.eq(held.previous),
                reducer.weights.pair.eq(held.pair),
                reducer.weights.stride_two.eq(instruction.stride_x[1]),
                reducer.maximum.eq(maximum),
                self.values[lane].eq(Mux(finished_second, second_value, value)),
            ]
            for tap in range(PATCH_TAPS):
                m.d.comb += [
                    reducer.words[tap].eq(words[tap].word_select(lane, 8)),
                    reducer.taps[tap].eq(taps.data.word_select(tap * config.lanes + lane, 8)),
                ]
            with m.If(arriving):
                m.d.sync += value.eq(self.read_values[lane])
            with m.Elif(enable[-2]):
                with m.If(~maximum):
                    m.d.sync += value.eq(Mux(whole.first, 0, value) + reducer.first)
                with m.Elif(whole.first | (reducer.first > value[:8].as_signed())):
                    m.d.sync += value.eq(reducer.first)
            with m.If(enable[-1]):
                m.d.sync += second_value.eq(add_with_carry(
                    Mux(whole_second.first, 0, second_value), reducer.second, reducer.carry))
        return m
