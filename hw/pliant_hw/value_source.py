"""Where a Post instruction takes its 32-bit values from."""

from __future__ import annotations

from typing import Any

from amaranth import Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import FEATURE_BANKS, AcceleratorConfig
from pliant.spec.isa import Post, Source
from pliant.spec.numerics import INT8_MIN
from pliant_hw.accumulators import ACCUMULATOR_READ_LATENCY
from pliant_hw.beat_memory import BeatMemory
from pliant_hw.layouts import BeatWritePort, FeatureReadPort, instruction_layout
from pliant_hw.patches import PATCH_TAPS, PatchReader, PatchWalker
from pliant_hw.pipeline import delayed, stages


class ValueSource(wiring.Component):
    """Produces the 32-bit values of a Post instruction, from accumulators or from windows.

    One word a cycle from the accumulators; one patch of up to 2x2 taps a cycle from the feature
    buffer, so a 2x2 window takes one cycle, a 3x3 window four.

    Members
    -------
    start : In   pulse with a new `instruction`, which then holds still until the last value
    instruction : In   decoded Post
    permit : In   one more value may be issued
    issue : Out   a value is issued; it appears 3 (windows: 4) cycles later
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

        # Windows: patches from the feature buffer, reduced in three stages. Stage 1 holds the
        # taps, beside their weights; stage 2 products and maxima of pairs; stage 3 one value.
        patch = reader.patch.payload.patch
        step = Signal()
        m.d.comb += [
            walker.start.eq(self.start & ~from_accumulators),
            walker.instruction.eq(instruction),
            reader.patch.ready.eq(self.permit | ~patch.last),
            step.eq(reader.patch.valid & reader.patch.ready),
            self.issue.eq(self.read_valid | (step & patch.last)),
            self.wait_bank.eq(reader.wait_bank),
            taps.read_enable.eq(step),
            taps.address.eq(patch.tap),
        ]
        enable = stages(m, step, 3)
        held: Any = Signal(patch.shape(), reset_less=True)
        marks_layout = data.StructLayout({
            "first": 1, "last": 1, "group": unsigned(len(self.group))})
        marks: Any = Signal(marks_layout)
        words: Any = Signal(data.ArrayLayout(unsigned(8 * config.lanes), PATCH_TAPS),
                            reset_less=True)
        m.d.comb += [marks.first.eq(held.first), marks.last.eq(held.last),
                     marks.group.eq(held.group)]
        with m.If(step):
            m.d.sync += [held.eq(patch), words.eq(reader.patch.payload.words)]
        done = data.View(marks_layout, delayed(m, marks.as_value(), 2, "marks"))
        maximum = Signal()
        depthwise = Signal()
        m.d.comb += [maximum.eq(instruction.source == Source.MAXIMUM),
                     depthwise.eq(instruction.source == Source.DEPTHWISE)]

        read = delayed(m, self.read_valid, ACCUMULATOR_READ_LATENCY, "read")
        read_group = delayed(m, group, ACCUMULATOR_READ_LATENCY, "read_group")
        m.d.sync += [self.valid.eq(read | (enable[3] & done.last)),
                     self.group.eq(Mux(from_accumulators, read_group, done.group))]
        for lane in range(config.lanes):
            reduced = self._reduce(m, lane, held, words, taps.data, enable, maximum, depthwise)
            value = Signal(signed(32), name=f"value_{lane}", reset_less=True)
            m.d.comb += self.values[lane].eq(value)
            with m.If(read):
                m.d.sync += value.eq(self.read_values[lane])
            with m.Elif(enable[3]):
                with m.If(done.first):
                    m.d.sync += value.eq(reduced)
                with m.Elif(~maximum):
                    m.d.sync += value.eq(value + reduced)
                with m.Elif(reduced > value):
                    m.d.sync += value.eq(reduced)
        return m

    def _reduce(
        self, m: Module, lane: int, patch: Any, words: Any, weights: Value, enable: list[Value],
        maximum: Signal, depthwise: Signal,
    ) -> Signal:
        """Reduce one lane of a patch to the sum of its products or its maximum."""
        products, largest = [], []
        bits = 8 * self._config.lanes
        for tap in range(PATCH_TAPS):
            feature = Signal(signed(8), name=f"feature_{lane}_{tap}")
            weight = Signal(signed(8), name=f"weight_{lane}_{tap}")
            product = Signal(signed(16), name=f"product_{lane}_{tap}", reset_less=True)
            m.d.comb += [
                feature.eq(Mux(patch.inside[tap], words[tap].word_select(lane, 8).as_signed(),
                               self.instruction.pad_value)),
                weight.eq(Mux(depthwise, weights[tap * bits + 8 * lane:][:8].as_signed(),
                              patch.present[tap])),
            ]
            with m.If(enable[1] & ~maximum):
                m.d.sync += product.eq(feature * weight)
            products.append(product)
            largest.append(Mux(patch.present[tap], feature, INT8_MIN))
        upper, lower = (
            Signal(signed(8), name=f"maximum_{lane}_{half}", reset_less=True)
            for half in range(2)
        )
        result = Signal(signed(18), name=f"reduced_{lane}", reset_less=True)
        with m.If(enable[1] & maximum):
            m.d.sync += [upper.eq(Mux(largest[0] > largest[1], largest[0], largest[1])),
                         lower.eq(Mux(largest[2] > largest[3], largest[2], largest[3]))]
        with m.If(enable[2]):
            with m.If(maximum):
                m.d.sync += result.eq(Mux(upper > lower, upper, lower))
            with m.Else():
                m.d.sync += result.eq((products[0] + products[1]) + (products[2] + products[3]))
        return result
