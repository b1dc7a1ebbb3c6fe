"""Where a Post instruction takes its 32-bit values from."""

from __future__ import annotations

from typing import Any

from amaranth import Array, Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from pliant.spec.config import DISPLACED_TAPS, FEATURE_BANKS, AcceleratorConfig
from pliant.spec.isa import Post, Source
from pliant.spec.sampling import MAX_SCALED_KERNEL
from pliant_hw.accumulators import ACCUMULATOR_READ_LATENCY
from pliant_hw.beat_memory import BeatMemory
from pliant_hw.layouts import BeatWritePort, FeatureReadPort, instruction_layout
from pliant_hw.patches import PatchReader, PatchWalker
from pliant_hw.pipeline import add_with_carry, delayed, stages
from pliant_hw.products import PATCH_TAPS, depthwise_slices
from pliant_hw.reduction import (
    PRODUCT_BITS,
    REDUCER_LATENCY,
    WEIGHTS,
    LaneReducer,
    weights_of,
)
from pliant_hw.walker import SIZE_BITS

SOURCE_LATENCY = REDUCER_LATENCY + 2
"""From the issue of a value to the value: the patch's words, its reduction, the window's."""

DISPLACED_BITS = PRODUCT_BITS + (max(MAX_SCALED_KERNEL ** 2, DISPLACED_TAPS) - 1).bit_length() - 1
"""Signed; a sum of as many products as a window with offsets can have, 2**14 at most each (21)."""


class ValueSource(wiring.Component):
    """Produces the 32-bit values of Post instructions, from accumulators or from windows.

    One word a cycle from the accumulators; one patch of up to 2x2 taps a cycle from the feature
    buffer, so a 2x2 window takes one cycle, a 3x3 window four. Depthwise outputs side by side
    share patches, see :func:`pliant.spec.memory.row_patches`. A displaced patch is one tap of up to
    four lane groups; their values come one after the other, beside the taps of the next window.
    Between two instructions are 3 cycles in which nothing is issued, 15 more where accumulators
    follow windows or the reverse.

    Members
    -------
    start : In   pulse with a new `instruction`, after `finished` came for the one before; it
        then holds still until its first value has come out and `finished` comes
    instruction : In   decoded Post
    finished : Out   pulse: all patches have been asked for, or all values issued
    room : In   so many values may be issued, a bit for each of `words_at_once`
    residuals : In   residual words for them: bit 0, one; bit 1, two
    parameters : In   a lane group's first value may be issued, or with offsets an instruction's
    issue : Out   a value is issued; it appears SOURCE_LATENCY cycles later
    claim_residual, claim_parameters : Out   it takes one of these
    offsets : In(stream)   if it displaces: words of offsets, see PatchWalker
    feature_<bank> : Out(FeatureReadPort)   for each bank
    taps : In(BeatWritePort)   depthwise weights from the load unit
    read_valid, read_bank, read_entry, read_group : Out, read_values : In   see Accumulators
    valid : Out, values : Out   lanes x int32
    load, load_parameters : Out   the value of the next cycle is the first of an instruction, of a
        lane group; `release_parameters` : Out   beside the latter, see ParameterUnit
    wait_bank : Out
    """

    instruction: Any
    taps: Any
    read_values: Any
    values: Any
    start: Signal
    finished: Signal
    room: Signal
    residuals: Signal
    parameters: Signal
    issue: Signal
    claim_residual: Signal
    claim_parameters: Signal
    read_valid: Signal
    read_bank: Signal
    read_entry: Signal
    read_group: Signal
    valid: Signal
    load: Signal
    load_parameters: Signal
    release_parameters: Signal
    offsets: Any
    wait_bank: Signal

    def __init__(self, *, config: AcceleratorConfig) -> None:
        self._config = config
        self.displaces = config.displaced_groups > 0
        self.words_at_once = (1, FEATURE_BANKS if self.displaces else 2)
        self._taps = BeatMemory(
            config=config, word_bytes=PATCH_TAPS * config.lanes, depth=config.tap_depth)
        self.tap_beat_bits = self._taps.beat_address_bits
        values = data.ArrayLayout(signed(32), config.lanes)
        super().__init__({
            "start": In(1),
            "instruction": In(instruction_layout(Post)),
            "finished": Out(1),
            "room": In(len(self.words_at_once)),
            "residuals": In(2),
            "parameters": In(1),
            "issue": Out(1),
            "claim_residual": Out(1),
            "claim_parameters": Out(1),
            **{f"feature_{bank}": Out(FeatureReadPort(config)) for bank in range(FEATURE_BANKS)},
            "taps": In(BeatWritePort(config, self.tap_beat_bits)),
            "read_valid": Out(1),
            "read_bank": Out(1),
            "read_entry": Out(range(config.accumulator_depth)),
            "read_group": Out(range(max(2, config.groups_per_tile))),
            "read_values": In(values),
            "valid": Out(1),
            "values": Out(values),
            "load": Out(1),
            "load_parameters": Out(1),
            "release_parameters": Out(1),
            "wait_bank": Out(1),
            **({"offsets": In(stream.Signature(unsigned(8 * config.lanes)))}
               if self.displaces else {}),
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
        if self.displaces:
            wiring.connect(m, wiring.flipped(self.offsets), walker.offsets)
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
        columns_left, rows_left = Signal(SIZE_BITS), Signal(SIZE_BITS)
        starts, starts_group = Signal(), Signal()
        last_column, last_pixel, last = Signal(), Signal(), Signal()
        windows = Signal(2)  # instructions with windows that are not issued
        later = Signal(FEATURE_BANKS - 1 if self.displaces else 1)  # a one for each value to follow
        follows = later[0]
        read = Signal()
        m.d.comb += [
            last_column.eq(columns_left == 1),
            last_pixel.eq(last_column & (rows_left == 1)),
            last.eq(last_pixel & (group == instruction.groups - 1)),
            read.eq(active & (windows == 0) & ~follows & self.room[0]
                    & (self.residuals[0] | ~instruction.add_enable)
                    & (self.parameters | ~starts_group)),
            self.finished.eq((read & last) | walker.finished),
        ]
        with m.If(read):
            m.d.sync += [entry.eq(entry + 1), columns_left.eq(columns_left - 1), starts.eq(0),
                         starts_group.eq(last_pixel)]
            with m.If(last_column):
                m.d.sync += [columns_left.eq(instruction.out_width), rows_left.eq(rows_left - 1)]
            with m.If(last_pixel):
                m.d.sync += [rows_left.eq(instruction.out_height), group.eq(group + 1),
                             entry.eq(instruction.accumulator_base)]
            with m.If(last):
                m.d.sync += active.eq(0)
        with m.If(self.start):
            m.d.sync += [active.eq(from_accumulators), group.eq(0), starts.eq(1),
                         starts_group.eq(1), columns_left.eq(instruction.out_width),
                         rows_left.eq(instruction.out_height),
                         entry.eq(instruction.accumulator_base)]
        wait = SOURCE_LATENCY - ACCUMULATOR_READ_LATENCY - 1
        accumulator_bank = Signal()
        m.d.comb += [
            accumulator_bank.eq(instruction.accumulator_bank),
            self.read_valid.eq(delayed(m, read, wait, "read")),
            self.read_bank.eq(delayed(m, accumulator_bank, wait, "bank")),
            self.read_entry.eq(delayed(m, entry, wait, "entry")),
            self.read_group.eq(delayed(m, group, wait, "read_group")),
        ]

        # Windows: patches from the feature buffer beside their taps. An instruction's patches may
        # be asked for while the one before still has some to come.
        patch = reader.patch.payload.patch
        step, leave = Signal(), Signal()
        add_enable = Signal()
        adding = Signal()
        start_windows = Signal()
        finish_windows = Signal()
        m.d.comb += [
            start_windows.eq(self.start & ~from_accumulators),
            walker.start.eq(start_windows),
            walker.instruction.eq(instruction),
            adding.eq(Mux(patch.starts, instruction.add_enable, add_enable)),
            reader.patch.ready.eq(~patch.last | (
                ~follows & (self.parameters | ~patch.starts_group)
                & self.room[1]  # for any window
                & (Mux(patch.pair, self.residuals[1], self.residuals[0]) | ~adding))),
            step.eq(reader.patch.valid & reader.patch.ready),
            leave.eq(step & patch.last),
            finish_windows.eq(step & patch.final),
            self.wait_bank.eq(reader.wait_bank),
            taps.read_enable.eq(step & patch.own),
            taps.address.eq(patch.tap),
        ]
        # Only some of a displaced window's lane groups are present; each has a value.
        m.d.sync += [later.eq(later >> 1), windows.eq(windows + start_windows - finish_windows)]
        with m.If(leave):
            m.d.sync += later.eq(patch.pair)
        displacing = Signal()  # the values to follow are of a displaced window
        if self.displaces:
            with m.If(leave):
                m.d.sync += displacing.eq(patch.displaced)
            with m.If(leave & patch.displaced):
                m.d.sync += later.eq(patch.present[1:])
        enable = stages(m, step, SOURCE_LATENCY)
        held: Any = Signal(patch.shape(), reset_less=True)
        words: Any = Signal(data.ArrayLayout(unsigned(8 * config.lanes), PATCH_TAPS),
                            reset_less=True)
        pad_value = Signal(signed(8))
        depthwise, maximum, stride_two = Signal(), Signal(), Signal()
        with m.If(step):
            m.d.sync += [held.eq(patch), words.eq(reader.patch.payload.words)]
        with m.If(step & patch.starts):
            m.d.sync += [
                add_enable.eq(instruction.add_enable),
                pad_value.eq(instruction.pad_value),
                depthwise.eq(instruction.source == Source.DEPTHWISE),
                maximum.eq(instruction.source == Source.MAXIMUM),
                stride_two.eq(instruction.stride_x[1]),
            ]
        held_first = Signal()
        weights: Any = Signal(WEIGHTS)
        m.d.comb += [
            held_first.eq(held.first),
            *(weights[name].eq(value)
              for name, value in weights_of(held, depthwise, stride_two).items()),
        ]
        first = delayed(m, held_first, REDUCER_LATENCY, "first")
        first_second = delayed(m, first, 1, "first_second")
        reduces_maximum = delayed(m, maximum, REDUCER_LATENCY - 1, "maximum")
        finds_maximum = delayed(m, reduces_maximum, 1, "finds_maximum")

        # Values. Those of a window come one cycle after the other, with parameters of their own if
        # they are displaced.
        starting, starting_group = Signal(), Signal()
        presents, releases = Signal(), Signal()
        m.d.comb += [
            self.issue.eq(read | leave | follows),
            self.claim_residual.eq(Mux(read, instruction.add_enable,
                                       Mux(follows, add_enable & ~displacing, leave & adding))),
            self.claim_parameters.eq(starting_group),
            starting.eq((read & starts) | (leave & patch.starts)),
            starting_group.eq((read & starts_group) | (leave & patch.starts_group)),
            self.valid.eq(delayed(m, self.issue, SOURCE_LATENCY, "issued")),
            self.load.eq(delayed(m, starting, SOURCE_LATENCY - 1, "starting")),
            presents.eq(starting_group),
            releases.eq(1),
            self.load_parameters.eq(delayed(m, presents, SOURCE_LATENCY - 1, "presents")),
            self.release_parameters.eq(delayed(m, releases, SOURCE_LATENCY - 1, "releases")),
        ]
        number = Signal(range(FEATURE_BANKS if self.displaces else 2))  # of the value
        following_number = Signal.like(number)
        m.d.comb += number.eq(Mux(follows, following_number, 0))
        m.d.sync += following_number.eq(number + 1)
        out_number = delayed(m, number, SOURCE_LATENCY, "number")
        if self.displaces:
            ends = Signal()
            with m.If(leave):
                m.d.sync += ends.eq(patch.final)
            with m.If(Mux(follows, displacing, leave & patch.displaced)):
                m.d.comb += [
                    presents.eq(1),
                    releases.eq(Mux(follows, ends & ~later[1], patch.final & ~patch.present[1])),
                ]
        arriving = delayed(m, self.read_valid, ACCUMULATOR_READ_LATENCY, "arriving")
        # The last two sums of a displaced window are kept from its last patch on, until those of
        # the next one are there, which is not before all its values have been issued.
        if self.displaces:
            held_displaced, held_last = Signal(), Signal()
            m.d.comb += [held_displaced.eq(held.displaced), held_last.eq(held.last)]
            reduces_displaced = delayed(m, held_displaced, REDUCER_LATENCY - 1, "displaced")
            last_patch = delayed(m, held_last, REDUCER_LATENCY, "last")
        slices = depthwise_slices(config)
        for lane in range(config.lanes):
            m.submodules[f"lane_{lane}"] = reducer = LaneReducer(
                slices=slices, displaces=self.displaces)
            value = Signal(signed(32), name=f"value_{lane}", reset_less=True)
            second_value = Signal(signed(32), name=f"second_value_{lane}", reset_less=True)
            m.d.comb += [
                reducer.enable.eq(Cat(enable[1:-1])),
                reducer.present.eq(held.present),
                reducer.inside.eq(held.inside),
                reducer.pad_value.eq(pad_value),
                reducer.weights.eq(weights),
                reducer.maximum.eq(reduces_maximum),
            ]
            values = [value, second_value]
            if self.displaces:
                m.d.comb += reducer.displaced.eq(reduces_displaced)
                for name in ("third", "fourth"):
                    running = Signal(signed(DISPLACED_BITS), name=f"running_{name}_{lane}",
                                     reset_less=True)
                    total = Signal(signed(DISPLACED_BITS), name=f"{name}_value_{lane}",
                                   reset_less=True)
                    result = (Mux(first, 0, running) + getattr(reducer, name))[:DISPLACED_BITS]
                    with m.If(enable[-2]):
                        m.d.sync += running.eq(result)
                    with m.If(enable[-2] & last_patch):
                        m.d.sync += total.eq(result)
                    values.append(total)
            m.d.comb += self.values[lane].eq(Array(values)[out_number])
            for tap in range(PATCH_TAPS):
                m.d.comb += [
                    reducer.words[tap].eq(words[tap].word_select(lane, 8)),
                    reducer.taps[tap].eq(taps.data.word_select(tap * config.lanes + lane, 8)),
                ]
            with m.If(arriving):
                m.d.sync += value.eq(self.read_values[lane])
            with m.Elif(enable[-2]):
                with m.If(~finds_maximum):
                    m.d.sync += value.eq(Mux(first, 0, value) + reducer.first)
                with m.Elif(first | (reducer.first > value[:8].as_signed())):
                    m.d.sync += value.eq(reducer.first)
            with m.If(enable[-1]):
                m.d.sync += second_value.eq(add_with_carry(
                    Mux(first_second, 0, second_value), reducer.second, reducer.carry))
        return m
